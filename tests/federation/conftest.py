"""A worker that does as it is told, and two peers to put it between."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    Infers,
    RequestId,
    Timings,
    Usage,
)
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.records import Load, ModelName
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.peer import PeerId

MODEL = ModelName("tiny")
FRONT, WORKER = PeerId("front"), PeerId("worker")


@dataclass
class StubBackend:
    """A worker that says `words`, one token each, `gap` seconds apart, and counts who it serves."""

    peer: PeerId
    words: tuple[str, ...] = ("one", " two", " three")
    gap: float = 0.0
    refusal: Exception | None = None
    """Raised before accepting."""
    failure: Exception | None = None
    """Raised after `failure_at` words."""
    failure_at: int = 0
    hangs_at: int | None = None
    """Words after which nothing comes any more."""
    accept_after: float = 0.0
    running: int = 0
    served: list[InferenceRequest] = field(default_factory=list)
    pulled: int = 0
    """Words that were asked for."""

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self.running += 1
        try:
            self.served.append(request)
            await trio.sleep(self.accept_after)
            if self.refusal:
                raise self.refusal
            digest = hashlib.sha256(str(request.prompt).encode()).digest()
            async with aclosing(self._events()) as events:
                yield Answer(self.peer, digest, prompt_tokens=3, events=events)
        finally:
            self.running -= 1

    async def _events(self) -> AsyncGenerator[AnswerEvent, None]:
        for number, word in enumerate(self.words):
            if number == self.hangs_at:
                await trio.sleep_forever()
            if self.failure and number == self.failure_at:
                raise self.failure
            await trio.sleep(self.gap)
            self.pulled += 1
            yield Chunk(0, (number,), word)
        yield Done(("stop",), Usage(3, len(self.words)), Timings(0.1, 0.2, 0.3))

    def load(self, model: ModelName) -> Load:
        assert model == MODEL
        return Load(slots_total=4, slots_busy=self.running)


@dataclass
class Answered:
    """All that came of one answer."""

    answer: Answer
    events: list[AnswerEvent]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Chunk))


async def read_answer(backend: Infers, request: InferenceRequest) -> Answered:
    async with backend.infer(request) as answer:
        return Answered(answer, [event async for event in answer.events])


def make_request(**changes: object) -> InferenceRequest:
    fields: dict[str, object] = {
        "kind": "completion",
        "request_id": RequestId("request"),
        "model": MODEL,
        "prompt": "Count to three:",
    }
    return InferenceRequest(**{**fields, **changes})  # type: ignore[arg-type]  # names are the test's own


@dataclass
class Pair:
    """A front and a worker, connected."""

    hub: MemoryHub
    front: MemoryNetwork
    worker: MemoryNetwork
    backend: StubBackend
    remote: RemoteBackend


@asynccontextmanager
async def connect_pair(backend: StubBackend | None = None, *, serve: bool = True) -> AsyncIterator[Pair]:
    hub = MemoryHub()
    backend = backend or StubBackend(WORKER)
    async with hub.network(FRONT) as a, hub.network(WORKER) as b:
        await a.dial(b.listen_addresses[0])
        if serve:
            InferServer(backend, backend.load).attach(b)
        await trio.testing.wait_all_tasks_blocked()
        yield Pair(hub, a, b, backend, RemoteBackend(a, WORKER))


class Stage:
    """What the tests of this folder share; a fixture, since tests are never imported by name."""

    MODEL, WORKER = MODEL, WORKER
    worker = StubBackend
    pair = staticmethod(connect_pair)
    read = staticmethod(read_answer)
    request = staticmethod(make_request)

    @staticmethod
    def run(main: Callable[[], Awaitable[None]]) -> None:
        """Run `main` under a virtual clock: hours pass in no time."""
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def stage() -> Stage:
    return Stage()
