"""A whole node that writes down what its engines report, before anybody else hears of it.

    python recorded_node.py start --home ...        as `python -m node`

The record is `record.jsonl` in the home, a line for each thing: a request that was accepted, with what it
says was delivered before; each piece its engine reported; its end. It is written with one `write` a line
and so survives what the node does not. Times are the machine's, so that lines of several nodes can be put in
order. `record.py` reads it. Engines are paced (`paced_child.py`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from federation.backend import Answer, AnswerEvent, Chunk, Done, InferenceRequest
from node import model_parts
from node.cli import main
from node.engine.engine import Engine, EngineConfig
from node.engine.wire import EngineParams
from node.worker import Worker

RECORD = "record.jsonl"
CHILD = Path(__file__).with_name("paced_child.py")


class Record:
    """The file, opened to append: a node that comes back goes on in it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, request: InferenceRequest, **facts: Any) -> None:
        line = json.dumps({"at": time.monotonic(), "what": what, "id": request.request_id, **facts})
        os.write(self._file, f"{line}\n".encode())


class RecordedEvents:
    """An answer's events, noted as they are asked for."""

    def __init__(self, request: InferenceRequest, events: AsyncIterator[AnswerEvent], record: Record) -> None:
        self._request = request
        self._events = events
        self._record = record

    def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        return self

    async def __anext__(self) -> AnswerEvent:
        event = await anext(self._events)
        match event:
            case Chunk():
                self._record.note("said", self._request, choice=event.choice, ids=event.token_ids)
            case Done():
                self._record.note("done", self._request)
        return event


def recorded_worker(record: Record) -> type[Worker]:
    """A worker that notes in `record` whom it serves with what."""

    class RecordedWorker(Worker):
        @asynccontextmanager
        async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
            async with super().infer(request) as answer:
                delivered = request.resume.choices if request.resume else ()
                record.note("accepted", request, resumed=[choice.token_ids for choice in delivered])
                yield replace(answer, events=RecordedEvents(request, answer.events, record))

    return RecordedWorker


def paced_engine(params: EngineParams, on_change: Callable[[], None], *, memory_max: int = 0) -> Engine:
    """What `node.served_model.make_engine` makes, paced."""
    config = EngineConfig((sys.executable, str(CHILD)))
    return Engine(replace(params, memory_max=memory_max), config, on_change)


def run() -> int:
    home = Path(sys.argv[sys.argv.index("--home") + 1])
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    vars(model_parts)["Worker"] = recorded_worker(Record(home / RECORD))
    vars(model_parts)["make_engine"] = paced_engine
    return main()


if __name__ == "__main__":
    sys.exit(run())
