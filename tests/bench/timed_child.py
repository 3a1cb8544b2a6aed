"""An engine child that notes when llama.cpp computes: `python -m tests.bench.timed_child FILE`.

It is the node's own in all else. Each `llama_decode` becomes one record at the end of the file, and so does
each cancellation, once its slot is free.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from node.engine import child
from node.engine.step_loop import StepLoop
from node.engine.wire import Cancel, FromChild, ToChild

_RECORD = struct.Struct("<dddi")
_CANCELLED = -1
"""Instead of a number of tokens: it was no decode."""


class Decode(NamedTuple):
    """One call. Times are those of `time.perf_counter`, the same in every process of a machine."""

    step_began: float
    """After the last look for messages."""
    began: float
    ended: float
    tokens: int


def read_notes(path: Path) -> tuple[list[Decode], list[float]]:
    """All decodes so far, and when a slot was free after a cancellation."""
    records = path.read_bytes()
    whole = records[: len(records) // _RECORD.size * _RECORD.size]
    notes = [Decode(*each) for each in _RECORD.iter_unpack(whole)]
    decodes = [each for each in notes if each.tokens != _CANCELLED]
    return decodes, [each.ended for each in notes if each.tokens == _CANCELLED]


def main() -> None:
    from llama_cpp import llama_cpp

    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    decode, handle, step = llama_cpp.llama_decode, StepLoop.handle, StepLoop.step
    step_began = 0.0

    def timed_decode(context: Any, batch: Any) -> Any:
        began = time.perf_counter()
        status = decode(context, batch)
        os.write(file, _RECORD.pack(step_began, began, time.perf_counter(), batch.n_tokens))
        return status

    def timed_handle(self: StepLoop, message: ToChild) -> list[FromChild]:
        answers = handle(self, message)
        if isinstance(message, Cancel):
            os.write(file, _RECORD.pack(0.0, 0.0, time.perf_counter(), _CANCELLED))
        return answers

    def timed_step(self: StepLoop) -> list[FromChild]:
        nonlocal step_began
        step_began = time.perf_counter()
        return step(self)

    llama_cpp.llama_decode = timed_decode
    StepLoop.handle = timed_handle  # type: ignore[method-assign]
    StepLoop.step = timed_step  # type: ignore[method-assign]
    child.main()


if __name__ == "__main__":
    main()
