"""An engine child that notes when llama.cpp computes: `python -m tests.bench.timed_child FILE`.

It is the node's own in all else. Each `llama_decode` becomes one record at the end of the file.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from node.engine import child

_RECORD = struct.Struct("<ddi")


class Decode(NamedTuple):
    """One call. Times are those of `time.perf_counter`, the same in every process of a machine."""

    began: float
    ended: float
    tokens: int


def read_decodes(path: Path) -> list[Decode]:
    """All so far."""
    records = path.read_bytes()
    return [
        Decode(*each) for each in _RECORD.iter_unpack(records[: len(records) // _RECORD.size * _RECORD.size])
    ]


def main() -> None:
    from llama_cpp import llama_cpp

    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    decode = llama_cpp.llama_decode

    def timed_decode(context: Any, batch: Any) -> Any:
        began = time.perf_counter()
        status = decode(context, batch)
        os.write(file, _RECORD.pack(began, time.perf_counter(), batch.n_tokens))
        return status

    llama_cpp.llama_decode = timed_decode
    child.main()


if __name__ == "__main__":
    main()
