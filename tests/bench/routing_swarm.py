"""A swarm of stub engines behind the real router, in simulated time.

    arrivals --> front: Router.survey, choose, lease --> StubEngine --> tokens, Done --> Router
                   ^                                        |
                   +-- waits, first come first served ------+     a view of loads four times a second

`LocalAI` replaces the router by its published rule: the node with the fewest *finished*
connections, whoever is busy; its nodes queue.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from federation.backend import InferenceRequest, PolicyName, RequestId
from federation.errors import Failed
from federation.lease import Lease
from federation.prefix import Prefix
from federation.router import Router
from federation.work import Work
from ledger.records import ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId
from tests.bench.stub_engine import EngineSpeed, Running, StubEngine

MODEL = ModelName("stub")
CHARACTERS_PER_TOKEN = 4
PUSH_INTERVAL = 0.25
"""Seconds between two reports of load, as the design has it."""
ROUND_TRIP = 0.002
CHUNK_INTERVAL = 0.025
"""Seconds: an engine tells of its tokens forty times a second."""
STALL_MAX = 3.0
"""Seconds without a token after which a front goes on elsewhere."""
LATENCY_GRACE = 40.0
"""Seconds until LocalAI calls a node offline."""


@dataclass(frozen=True)
class Ask:
    """One request of a client."""

    at: float
    prompt_tokens: int
    answer_tokens: int
    text: str
    marks: tuple[int, ...]
    session: int = 0


@dataclass(eq=False)
class Flight:
    """One request on its way."""

    ask: Ask
    number: int
    first_at: float | None = None
    ended_at: float | None = None
    peer: str = ""
    running: Running | None = None
    lease: Lease | None = None
    hold: AbstractContextManager[Lease] | None = None
    heard_at: float = 0.0
    untold: int = 0
    delivered: int = 0
    failures: int = 0
    cached: int = 0

    @property
    def total(self) -> float:
        """Seconds to the last token."""
        return math.inf if self.ended_at is None else self.ended_at - self.ask.at

    @property
    def ttft(self) -> float:
        return math.inf if self.first_at is None else self.first_at - self.ask.at


@dataclass
class Swarm:
    """Runs to the end of its requests, or to `until`."""

    policy: PolicyName | str
    engines: dict[str, StubEngine]
    seed: int
    knows_prefixes: bool = True
    until: float = math.inf
    now: float = 0.0
    flights: list[Flight] = field(default_factory=list)
    on_end: Callable[[Flight], None] = lambda _: None
    samples: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """Every half second: what runs where."""

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.router = Router(
            PeerId("front"),
            serves_locally=False,
            policy=self.policy if self.policy in ("eta", "least_used", "random") else "eta",
        )
        self.finished: Counter[str] = Counter()
        self.waiting: deque[Flight] = deque()
        self.by_request: dict[int, Flight] = {}
        self.online: dict[str, NodeView] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._stepping: dict[str, float] = {}
        self._is_over = False
        for name in self.engines:
            self._report(name)
        self.at(PUSH_INTERVAL, self._push)
        self.at(0.5, self._sample)

    @property
    def is_localai(self) -> bool:
        return self.policy == "localai"

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), action))

    def add(self, name: str, engine: StubEngine) -> None:
        """`engine` joins now."""
        self.engines[name] = engine
        self._report(name)

    def ask(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            flight = Flight(ask, len(self.flights))
            self.flights.append(flight)
            self.at(ask.at, partial(self._arrive, flight))

    def run(self) -> None:
        while self._events:
            when, _, action = heapq.heappop(self._events)
            if when > self.until:
                break
            self.now = when
            action()
            if self._is_over:
                break

    # What clients and the front do.

    def _arrive(self, flight: Flight) -> None:
        if self.is_localai:
            lowest = min(self.finished[name] for name in self.online)
            names = [name for name in sorted(self.online) if self.finished[name] == lowest]
            self._start(flight, self.rng.choice(names))
            return
        self.waiting.append(flight)
        self._admit()

    def _admit(self) -> None:
        ahead = 0
        for flight in list(self.waiting):
            work = self._work(flight)
            survey = self.router.survey(work, self.online.values(), self.now, ahead)
            if all(candidate.is_full for candidate in survey.candidates):
                return
            chosen = self.router.choose(survey.candidates, work, self.rng)
            if chosen is None:
                ahead += 1
                continue
            self.waiting.remove(flight)
            flight.hold = self.router.lease(chosen, work, self.now)
            flight.lease = flight.hold.__enter__()
            self._start(flight, chosen.peer)

    def _work(self, flight: Flight) -> Work:
        request = InferenceRequest("completion", RequestId(str(flight.number)), MODEL, prompt=flight.ask.text)
        work = self.router.work(request)
        if not self.knows_prefixes:
            prefix = work.prefix
            work = replace(work, prefix=Prefix((), 0.0, prefix.characters, prefix.ids))
        return work

    def _start(self, flight: Flight, name: str) -> None:
        ask, engine = flight.ask, self.engines[name]
        flight.peer, flight.heard_at, flight.untold = name, self.now, 0
        left = ask.answer_tokens - flight.delivered
        running = Running(ask.marks, ask.prompt_tokens + flight.delivered, left, self.now)
        flight.running = running
        self.by_request[id(running)] = flight
        engine.take(running, self.now)
        if flight.lease is not None:
            self.router.accepted(flight.lease, ask.prompt_tokens, self.now)
            self.at(self.now + STALL_MAX, lambda: self._watch(flight, running))
        self._follow(name)

    def _watch(self, flight: Flight, running: Running) -> None:
        """A stalled answer goes on elsewhere. A worker that reads a prompt says so, and does not stall."""
        if flight.running is not running or flight.ended_at is not None:
            return
        engine = self.engines[flight.peer]
        if not engine.hangs:
            flight.heard_at = max(flight.heard_at, self.now - 1.0)
        if flight.lease is not None and not engine.hangs and flight.untold == 0:
            self.router.heard(flight.lease, 0, 1.0, self.now)
        silent = self.now - flight.heard_at
        if silent < STALL_MAX:
            self.at(self.now + max(STALL_MAX - silent, 0.5), lambda: self._watch(flight, running))
            return
        assert flight.lease is not None
        self.router.failed(flight.lease, Failed("it fell silent"), self.now)
        self._release(flight)
        engine.drop(running, self.now)
        del self.by_request[id(running)]
        flight.running = None
        flight.failures += 1
        self.waiting.appendleft(flight)
        self._admit()

    def _release(self, flight: Flight) -> None:
        if flight.hold is not None:
            flight.hold.__exit__(None, None, None)
            flight.hold = flight.lease = None

    # What engines do.

    def _follow(self, name: str) -> None:
        """Have the end of the engine's next step on the list."""
        engine = self.engines[name]
        if engine.step_at is not None and self._stepping.get(name) != engine.step_at:
            self._stepping[name] = when = engine.step_at
            self.at(when, lambda: self._step(name, when))

    def _step(self, name: str, when: float) -> None:
        engine = self.engines[name]
        if engine.step_at != when or engine.hangs:
            return
        told = engine.end_step(self.now)
        for running, is_last in told:
            flight = self.by_request[id(running)]
            self._token(flight, running, engine, is_last=is_last)
        if any(is_last for _, is_last in told):
            self._admit()
        self._follow(name)

    def _token(self, flight: Flight, running: Running, engine: StubEngine, *, is_last: bool) -> None:
        flight.untold += 1
        flight.delivered += 1
        if flight.first_at is None:
            flight.first_at = self.now + ROUND_TRIP / 2
        waited = self.now - flight.heard_at
        if flight.lease is not None and (is_last or waited >= CHUNK_INTERVAL or running.generated == 1):
            self.router.heard(flight.lease, flight.untold, waited, self.now)
            flight.untold = 0
            flight.heard_at = self.now
        if not is_last:
            return
        done = engine.done(running, self.now)
        flight.cached = running.cached
        if flight.lease is not None:
            self.router.ended(flight.lease, done, self.now)
        self._release(flight)
        self.finished[flight.peer] += 1
        flight.ended_at = self.now + ROUND_TRIP / 2
        flight.running = None
        del self.by_request[id(running)]
        self.on_end(flight)

    # What the swarm tells the front.

    def _push(self) -> None:
        for name in self.engines:
            if not self.engines[name].hangs:
                self._report(name)
        pending = any(flight.ended_at is None for flight in self.flights)
        if not pending:
            self._is_over = True
        self.at(self.now + PUSH_INTERVAL, self._push)
        if self.waiting:
            self._admit()

    def _report(self, name: str) -> None:
        engine = self.engines[name]
        record = ModelRecord(MODEL, "loaded", ("completion",), size_bytes=2**28, slots=engine.slots)
        self.online[name] = NodeView(
            PeerId(name),
            name,
            "online",
            "worker",
            "1",
            rtt=ROUND_TRIP,
            last_seen=0.0,
            is_connected=True,
            models=(record,),
            loads={MODEL: engine.load()},
        )

    def _sample(self) -> None:
        self.samples.append((self.now, {name: len(each.running) for name, each in self.engines.items()}))
        self.at(self.now + 0.5, self._sample)


def make_engines(*times: float, slots: int = 4) -> dict[str, StubEngine]:
    """One engine each, so many times as fast as the first machine there was."""
    return {f"peer{number}": StubEngine(EngineSpeed(each), slots) for number, each in enumerate(times)}
