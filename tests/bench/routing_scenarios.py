"""What the swarm of stub engines goes through, with each way to choose a peer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.bench.routing_swarm import CHARACTERS_PER_TOKEN, Ask, Flight, Swarm, make_engines
from tests.bench.stub_engine import EngineSpeed, StubEngine

POLICIES = ("eta", "least_used", "random", "localai")
LOAD = 0.6
_PROMPT_MEDIAN, _ANSWER_MEDIAN, _SPREAD = 300, 120, 0.8
"""Tokens, and the spread of their logarithms: the longest of a hundred is seven times the median."""
_WARM_UP = 60.0
"""Seconds that are not counted: nobody knows anything yet, and the slots fill."""
_SLOTS = 4


@dataclass(frozen=True)
class Course:
    """One run: what became of each request, and what ran where."""

    policy: str
    flights: Sequence[Flight]
    samples: Sequence[tuple[float, Mapping[str, int]]]
    read_tokens: float

    def counted(self, since: float = _WARM_UP, until: float = math.inf) -> list[Flight]:
        return [flight for flight in self.flights if since <= flight.ask.at < until]

    def served(self, since: float = _WARM_UP, until: float = math.inf) -> Counter[str]:
        return Counter(flight.peer for flight in self.counted(since, until))


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else math.nan


def capacity(engines: Mapping[str, StubEngine]) -> float:
    """Requests a second that all of them can serve, if none waits for another's slot."""
    grown = math.exp(_SPREAD**2 / 2)
    return sum(
        1
        / (
            _PROMPT_MEDIAN * grown / engine.speed.prefill
            + _ANSWER_MEDIAN * grown * engine.speed.step(engine.slots) / engine.slots
        )
        for engine in engines.values()
    )


def poisson(rng: Random, rate: float, seconds: float) -> list[Ask]:
    """Requests that have nothing to do with each other."""
    asks, now = [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        prompt = _length(rng, _PROMPT_MEDIAN, 4000)
        answer = _length(rng, _ANSWER_MEDIAN, 1500)
        text = f"{rng.random()} ".ljust(prompt * CHARACTERS_PER_TOKEN, "x")
        asks.append(Ask(now, prompt, answer, text, (rng.getrandbits(60),)))
    return asks


def steady(policy: str, seed: int, seconds: float = 600.0) -> Course:
    """Speeds 4:1:1:1 at 60 % of what they can do together."""
    engines = make_engines(4, 1, 1, 1, slots=_SLOTS)
    return _course(policy, seed, engines, poisson(Random(seed), LOAD * capacity(engines), seconds))


def one_hangs(policy: str, seed: int, at: float = 120.0, seconds: float = 300.0) -> Course:
    """One of four equal peers stops at `at`, and answers probes as before."""
    engines = make_engines(1, 1, 1, 1, slots=_SLOTS)
    asks = poisson(Random(seed), 0.5 * capacity(engines), seconds)
    return _course(policy, seed, engines, asks, lambda swarm: swarm.at(at, lambda: _hang(swarm, "peer0")))


def newcomer(policy: str, seed: int, times: float = 1.0, at: float = 120.0, seconds: float = 300.0) -> Course:
    """A fourth peer, `times` as fast, joins three busy ones at `at`."""
    engines = make_engines(1, 1, 1, slots=_SLOTS)
    asks = poisson(Random(seed), 0.85 * capacity(engines), seconds)
    joined = StubEngine(EngineSpeed(times), _SLOTS)
    return _course(policy, seed, engines, asks, lambda swarm: swarm.at(at, lambda: swarm.add("new", joined)))


def one_degrades(policy: str, seed: int, at: float = 120.0, seconds: float = 300.0) -> Course:
    """One of four equal peers is five times slower from `at` on."""
    engines = make_engines(1, 1, 1, 1, slots=_SLOTS)
    asks = poisson(Random(seed), 0.5 * capacity(engines), seconds)
    return _course(policy, seed, engines, asks, lambda swarm: swarm.at(at, lambda: _slow(swarm, "peer0")))


SESSIONS, SYSTEM_TOKENS, TURNS = 20, 1500, 8


def shared_prompt(policy: str, seed: int, *, knows_prefixes: bool = True) -> Course:
    """Twenty conversations with one system prompt of 1,500 tokens, on four equal peers."""
    rng = Random(seed)
    engines = make_engines(1, 1, 1, 1, slots=_SLOTS)
    common = tuple(rng.getrandbits(60) for _ in range(SYSTEM_TOKENS // 64 + 1))
    turns: dict[int, list[Ask]] = {}
    for session in range(SESSIONS):
        marks, text = common, "s" * (SYSTEM_TOKENS * CHARACTERS_PER_TOKEN)
        turns[session] = []
        for _ in range(TURNS):
            said, answer = _length(rng, 60, 500), _length(rng, 80, 500)
            text += f"{rng.random()} ".ljust(said * CHARACTERS_PER_TOKEN, "u")
            marks += tuple(rng.getrandbits(60) for _ in range(max(said // 64, 1)))
            turns[session].append(Ask(0.0, len(text) // CHARACTERS_PER_TOKEN, answer, text, marks, session))
            text += "a" * (answer * CHARACTERS_PER_TOKEN)
            marks += tuple(rng.getrandbits(60) for _ in range(max(answer // 64, 1)))
    first = [replace(turns[session].pop(0), at=rng.uniform(0, 60)) for session in range(SESSIONS)]

    def start(swarm: Swarm) -> None:
        def next_turn(flight: Flight) -> None:
            if left := turns[flight.ask.session]:
                # People read an answer before they go on.
                swarm.ask([replace(left.pop(0), at=swarm.now + rng.expovariate(1 / 15))])

        swarm.on_end = next_turn

    return _course(policy, seed, engines, first, start, knows_prefixes=knows_prefixes)


def _course(
    policy: str,
    seed: int,
    engines: dict[str, StubEngine],
    asks: Sequence[Ask],
    prepare: Callable[[Swarm], None] = lambda _: None,
    *,
    knows_prefixes: bool = True,
) -> Course:
    last = max(ask.at for ask in asks)
    # LocalAI's requests at a node that hangs never end.
    swarm = Swarm(policy, engines, seed, knows_prefixes=knows_prefixes, until=last + 1200)
    swarm.ask(asks)
    prepare(swarm)
    swarm.run()
    if not swarm.is_localai:
        assert len(swarm.router.leases) == 0, "a lease is left"
    return Course(
        policy, swarm.flights, swarm.samples, sum(engine.read_tokens for engine in swarm.engines.values())
    )


def _length(rng: Random, median: float, most: int) -> int:
    return min(max(round(rng.lognormvariate(math.log(median), _SPREAD)), 8), most)


def _hang(swarm: Swarm, name: str) -> None:
    swarm.engines[name].hangs = True


def _slow(swarm: Swarm, name: str) -> None:
    engine = swarm.engines[name]
    engine.speed = EngineSpeed(engine.speed.times / 5)
