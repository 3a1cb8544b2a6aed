"""`python -m llama_cpp.server`, but with weights as they are in the file.

Repacked ones end the process at its first prompt where a virtual machine shows AMX and does not grant it;
a node's engine finds that out by itself, and that server has no flag for it.
"""

from __future__ import annotations

import runpy

from llama_cpp import llama_cpp

_default_params = llama_cpp.llama_model_default_params


def _params() -> llama_cpp.llama_model_params:
    params = _default_params()
    params.use_extra_bufts = False
    return params


if __name__ == "__main__":
    llama_cpp.llama_model_default_params = _params
    runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
