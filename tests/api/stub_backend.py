"""A backend that says what a test tells it to, traces it as a front does, and counts what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    ModelInfo,
    Queued,
    Timings,
    Usage,
)
from federation.trace import Trace
from ledger.records import ModelName
from p2p.peer import PeerId

SERVED_BY = PeerId("12D3KooWStub")


class Hang:
    """In a script: from here on, nothing comes."""


def words(*texts: str) -> list[AnswerEvent]:
    """An answer of these pieces, one token each."""
    chunks: list[AnswerEvent] = [Chunk(0, (index,), text) for index, text in enumerate(texts)]
    done = Done(("stop",), Usage(5, len(texts), 2), Timings(queue=0.001, prefill=0.02, decode=0.3))
    return [*chunks, done]


@dataclass
class StubBackend:
    """Plays `script`: events are yielded, errors raised, `Hang` hangs, floats are seconds of silence."""

    script: Sequence[AnswerEvent | Exception | Hang | float] = field(
        default_factory=lambda: words("Par", "is")
    )
    on_enter: Exception | Hang | None = None
    """Happens before the request is accepted."""
    accept_after: float = 0.0
    """Seconds."""
    attempts: int = 1
    queued: Queued = field(default_factory=Queued)
    listed: Sequence[ModelInfo] = (ModelInfo(ModelName("stub"), "loaded", ("chat", "completion"), 4096),)
    requests: list[InferenceRequest] = field(default_factory=list)
    running: int = 0
    cancelled: int = 0
    idle: trio.Event = field(default_factory=trio.Event)
    """A request has ended, whichever way."""

    def models(self) -> Sequence[ModelInfo]:
        return self.listed

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self.requests.append(request)
        self.running += 1
        trace, now = request.trace, trio.current_time
        asked_at = now()
        trace.begin(request.model, asked_at)
        trace.attempts += 1
        try:
            await self._queue(trace)
            if isinstance(self.on_enter, Hang):
                await trio.sleep_forever()
            elif self.on_enter is not None:
                raise self.on_enter
            await trio.sleep(self.accept_after)
            trace.accept(SERVED_BY, 5, asked_at, now())
            async with aclosing(self._events(trace)) as events:
                yield Answer(SERVED_BY, b"\0" * 32, 5, events, self.attempts, self.queued)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            trace.stop(0, now())
            self.running -= 1
            self.idle.set()

    async def _queue(self, trace: Trace) -> None:
        trace.position, seconds = self.queued.position, self.queued.estimate or 0.0
        await trio.sleep(seconds)
        trace.waited(seconds)
        trace.position = None

    async def _events(self, trace: Trace) -> AsyncGenerator[AnswerEvent]:
        for step in self.script:
            await trio.lowlevel.checkpoint()
            if isinstance(step, Hang):
                await trio.sleep_forever()
            elif isinstance(step, Exception):
                raise step
            elif isinstance(step, float):
                await trio.sleep(step)
            else:
                if isinstance(step, Chunk) and not trace.has_token:
                    trace.first_token(trio.current_time())
                elif isinstance(step, Done):
                    trace.end(step, trio.current_time())
                yield step


def hanging_in(phase: str) -> dict[str, Any]:
    """How a backend behaves that hangs in `phase`: waiting, prefill or decode."""
    scripts: dict[str, dict[str, Any]] = {
        "waiting": {"on_enter": Hang()},
        "prefill": {"script": [Hang()]},
        "decode": {"script": [words("Par")[0], Hang()]},
    }
    return scripts[phase]
