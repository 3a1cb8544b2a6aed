"""A worker that does as it is told, and two peers to put it between."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import pytest
import trio
import trio.testing

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    Infers,
    PolicyName,
    RequestId,
    Timings,
    Usage,
)
from federation.front import Front
from federation.gated_backend import GatedBackend
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.records import AliasRecord, Capability, Load, ModelName, ModelRecord
from ledger.revision import Revision
from ledger.view import NodeState, NodeView
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import PeerStream, StreamHandler
from p2p.peer import PeerId

MODEL = ModelName("tiny")
FRONT, WORKER, ME = PeerId("front"), PeerId("worker"), PeerId("me")
A_ROUND_TRIP = 0.01
"""Seconds, on the memory network; nothing there takes longer to be heard of."""


@dataclass
class StubBackend:
    """A worker that says `words`, `gap` seconds apart, or what is left of them, and counts who it serves."""

    peer: PeerId
    words: tuple[str, ...] = ("one", " two", " three")
    chunks: tuple[Chunk, ...] = ()
    """Said instead of words, if there are any."""
    hang_after_chunks: bool = False
    tokens_per_word: int = 1
    gap: float = 0.0
    gaps: Iterator[float] | None = None
    """One before each word, instead of `gap`."""
    refusal: Exception | None = None
    """Raised before accepting."""
    failure: Exception | None = None
    """Raised after `failure_at` words."""
    failure_at: int = 0
    hangs_at: int | None = None
    """Words after which nothing comes any more."""
    accept_after: float = 0.0
    running: int = 0
    most_running: int = 0
    served: list[InferenceRequest] = field(default_factory=list)
    pulled: int = 0
    """Words that were asked for."""

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            self.served.append(request)
            await trio.sleep(self.accept_after)
            if self.refusal:
                raise self.refusal
            digest = hashlib.sha256(str(request.prompt).encode()).digest()
            async with aclosing(self._events(request)) as events:
                yield Answer(self.peer, digest, prompt_tokens=3, events=events)
        finally:
            self.running -= 1

    async def _events(self, request: InferenceRequest) -> AsyncGenerator[AnswerEvent, None]:
        delivered = len(request.resume.choices[0].token_ids) if request.resume else 0
        for chunk in self.chunks:
            yield chunk
        if self.hang_after_chunks:
            await trio.sleep_forever()
        if self.chunks:
            yield Done((), Usage(3, 0), Timings())
            return
        for number, word in enumerate(self.words):
            if number < delivered // self.tokens_per_word:
                continue
            if number == self.hangs_at:
                await trio.sleep_forever()
            if self.failure and number == self.failure_at:
                raise self.failure
            await trio.sleep(self.gap if self.gaps is None else next(self.gaps))
            self.pulled += 1
            for choice in range(request.choices):
                yield Chunk(choice, (number,) * self.tokens_per_word, word)
        said = len(self.words) * request.choices
        reasons: list[FinishReason] = ["stop"] * request.choices
        yield Done(tuple(reasons), Usage(3, said), Timings(0.1, 0.2, 0.3))

    def load(self, model: ModelName) -> Load:
        assert model.startswith(MODEL)
        return Load(slots_total=4, slots_busy=self.running)


@dataclass
class Answered:
    """All that came of one answer."""

    answer: Answer
    events: list[AnswerEvent]
    waited: float
    """Seconds, for a slot."""

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Chunk))


async def read_answer(backend: Infers, request: InferenceRequest) -> Answered:
    async with backend.infer(request) as answer:
        events = [event async for event in answer.events]
    return Answered(answer, events, request.trace.queue)


def make_request(**changes: object) -> InferenceRequest:
    fields: dict[str, object] = {
        "kind": "completion",
        "request_id": RequestId("request"),
        "model": MODEL,
        "prompt": "Count to three:",
    }
    return InferenceRequest(**{**fields, **changes})  # type: ignore[arg-type]  # names are the test's own


@dataclass
class CountedStreams:
    """The streams of `network`, counted as they are opened."""

    network: MemoryNetwork
    opened: int = 0

    @property
    def me(self) -> PeerId:
        return self.network.me

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        self.opened += 1
        return await self.network.open_stream(peer, protocol_id)

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        self.network.on_stream(protocol_id, handler)


@dataclass
class Pair:
    """A front and a worker, connected."""

    hub: MemoryHub
    front: MemoryNetwork
    worker: MemoryNetwork
    backend: StubBackend
    streams: CountedStreams
    remote: RemoteBackend


@asynccontextmanager
async def connect_pair(backend: StubBackend | None = None, *, serve: bool = True) -> AsyncIterator[Pair]:
    hub = MemoryHub()
    backend = backend or StubBackend(WORKER)
    async with hub.network(FRONT) as a, hub.network(WORKER) as b:
        await a.dial(b.listen_addresses[0])
        if serve:
            InferServer(lambda peer: backend, backend.load).attach(b)
        await trio.testing.wait_all_tasks_blocked()
        streams = CountedStreams(a)
        yield Pair(hub, a, b, backend, streams, RemoteBackend(streams, WORKER))


@dataclass
class StubPulse:
    """Nobody gives a sign of life but those `alive`."""

    alive: set[PeerId] = field(default_factory=set)
    asked: list[PeerId] = field(default_factory=list)

    def ask(self, peer: PeerId) -> float:
        self.asked.append(peer)
        return trio.current_time()

    def has_heard(self, peer: PeerId, since: float) -> bool:
        assert since <= trio.current_time()
        return peer in self.alive


class StubView:
    """Nodes as the test says, right or out of date."""

    def __init__(self, slots: int) -> None:
        self.revision = Revision()
        self.rows: dict[str, NodeView] = {}
        self.named: dict[ModelName, AliasRecord] = {}
        self._slots = slots

    def show(
        self,
        name: str,
        state: NodeState = "online",
        *,
        sha256: str = "",
        capabilities: tuple[Capability, ...] = (),
    ) -> None:
        record = ModelRecord(MODEL, "loaded", capabilities, slots=self._slots, sha256=sha256)
        self.rows[name] = NodeView(
            PeerId(name), name, state, "worker", "1", is_connected=True, models=(record,)
        )
        self.revision.rise()

    def report(self, name: str, load: Load) -> None:
        self.rows[name] = replace(self.rows[name], loads={MODEL: load})
        self.revision.rise()

    def nodes(self) -> list[NodeView]:
        return list(self.rows.values())

    def aliases(self) -> dict[ModelName, AliasRecord]:
        return self.named


@dataclass
class Swarm:
    """A front and its workers."""

    hub: MemoryHub
    network: MemoryNetwork
    front: Front
    view: StubView
    workers: dict[str, StubBackend]
    suspects: list[str]
    pulse: StubPulse

    @property
    def running(self) -> int:
        return sum(worker.running for worker in self.workers.values())

    @property
    def leased(self) -> int:
        return sum(self.front.leases.count(worker.peer, MODEL) for worker in self.workers.values())


@asynccontextmanager
async def make_swarm(
    *names: str,
    local: StubBackend | None = None,
    policy: PolicyName = "eta",
    slots: int = 4,
    seed: int = 0,
    hedge: float = 0.0,
) -> AsyncIterator[Swarm]:
    hub = MemoryHub()
    view = StubView(slots)
    suspects: list[str] = []
    pulse = StubPulse()
    async with hub.network(ME) as network:
        gated = None
        if local is not None:
            gated = GatedBackend(local, lambda: {MODEL: Load(slots, local.running)})
        front = Front(
            ME,
            view,
            local=gated,
            remote=lambda peer: RemoteBackend(network, peer, pulse),
            rng=Random(seed),
            on_peer_failure=lambda peer, reason: suspects.append(peer),
            policy=policy,
            hedge=hedge,
        )
        swarm = Swarm(hub, network, front, view, {}, suspects, pulse)
        if local is not None:
            swarm.workers["me"] = local
            view.show("me")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.run)
            for name in names:
                swarm.workers[name] = StubBackend(PeerId(name))
                await nursery.start(_run_worker, swarm, name)
                view.show(name)
            yield swarm
            await trio.sleep(A_ROUND_TRIP)
            assert swarm.leased == 0
            assert swarm.running == 0
            nursery.cancel_scope.cancel()


async def _run_worker(
    swarm: Swarm, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with swarm.hub.network(PeerId(name)) as network:
        worker = swarm.workers[name]
        InferServer(lambda peer: worker, worker.load).attach(network)
        await swarm.network.dial(network.listen_addresses[0])
        task_status.started()
        await trio.sleep_forever()


class Stage:
    """What the tests of this folder share; a fixture, since tests are never imported by name."""

    MODEL, WORKER, ME = MODEL, WORKER, ME
    A_ROUND_TRIP = A_ROUND_TRIP
    worker = StubBackend
    pair = staticmethod(connect_pair)
    swarm = staticmethod(make_swarm)
    read = staticmethod(read_answer)
    request = staticmethod(make_request)

    @staticmethod
    def run(main: Callable[[], Awaitable[None]]) -> None:
        """Run `main` under a virtual clock: hours pass in no time."""
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def stage() -> Stage:
    return Stage()
