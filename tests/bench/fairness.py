"""How fairly fronts share a peer's slots, and API keys a front's: `make bench-fairness`, a few minutes.

Whole nodes on the memory network under a virtual clock, so nothing here depends on the machine: one with a
worker of four slots, the others fronts. Answers take a second on average, log-normal. Each side is the same
requests; what differs is how a front that finds no slot learns of one:

    offers          as built: the peer remembers it, and offers it what frees, in turn
    reports only    it waits in the room, and hears of a free slot by the loads on probes and answers
    asking again    no room: whoever is refused asks again a second later

How to call it: `report.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import trio

from federation.backend import Routing
from federation.errors import Refused
from federation.infer_client import RemoteBackend
from p2p.memory_network import MemoryHub
from tests import mock_time
from tests.bench.figures import Figure, percentile
from tests.bench.report import report
from tests.federation.conftest import make_request, read_answer
from tests.sim.whole_swarm import WholeNode, WholeSwarm, whole_swarm

PAGE = Path(__file__).parents[2] / "docs" / "fairness.md"

SLOTS = 4
SECONDS = 120.0
"""That each side runs."""
_SIGMA = 0.5
"""Of the logarithm of an answer's length: the longest of a hundred takes three times the usual."""
_RETRY = 1.0
"""Seconds until a refused client asks again, where nothing else tells it when to."""

_PAUSE = 1.0
"""Seconds between two requests of the key that sends one at a time."""

Side: TypeAlias = Literal["offers", "reports only", "asking again"]
SIDES: tuple[Side, ...] = ("offers", "reports only", "asking again")


@dataclass
class Found:
    """What came of one side."""

    answers: Counter[int] = field(default_factory=Counter)
    """By the number of the front."""
    waits: dict[int, list[float]] = field(default_factory=dict)
    refusals: int = 0
    until: float = 0.0

    def note(self, front: int, wait: float, refusals: int) -> None:
        self.refusals += refusals
        if trio.current_time() <= self.until:
            self.answers[front] += 1
            self.waits.setdefault(front, []).append(wait)


def _lengths(rng: Random) -> Iterator[float]:
    """Seconds for each of the three words of an answer, which take one together on average."""
    while True:
        length = rng.lognormvariate(-(_SIGMA**2) / 2, _SIGMA)
        yield from (length / 3,) * 3


async def _settle(swarm: WholeSwarm, seed: int, *, has_feeds: bool) -> None:
    """The first node alone has a worker, and all know of all."""
    swarm.nodes[0].stub.gaps = _lengths(Random(seed))
    for node in swarm.nodes:
        node.has_feeds = has_feeds
    for node in swarm.nodes[1:]:
        node.has_worker = False
    await swarm.until(lambda: swarm.all_see("online"), within=60)
    await swarm.until(lambda: all(node.front.models() for node in swarm.nodes), within=60)


async def _ask_front(found: Found, front: WholeNode) -> None:
    answered = await read_answer(front.front, make_request())
    found.note(front.number, answered.waited, answered.answer.attempts - 1)


async def _ask_again(found: Found, front: WholeNode, worker: RemoteBackend) -> None:
    begun, refusals = trio.current_time(), 0
    while True:
        try:
            async with worker.infer(make_request()) as answer:
                wait = trio.current_time() - begun
                async for _ in answer.events:
                    pass
        except Refused:
            refusals += 1
            await trio.sleep(_RETRY)
        else:
            found.note(front.number, wait, refusals)
            return


async def _keep_asking(ask: Callable[[], Awaitable[None]], found: Found) -> None:
    while trio.current_time() < found.until:
        await ask()


def _run_fronts(side: Side, wants: tuple[int, ...], seed: int = 1) -> Found:
    """Each front has as many clients as `wants` says, who ask for one answer after the other."""

    async def main() -> Found:
        found = Found()
        async with whole_swarm(MemoryHub(), len(wants) + 1, seed=seed) as swarm:
            await _settle(swarm, seed, has_feeds=side == "offers")
            found.until = trio.current_time() + SECONDS
            async with trio.open_nursery() as nursery:
                for front, want in zip(swarm.nodes[1:], wants, strict=True):
                    worker = RemoteBackend(front.swarm, swarm.nodes[0].peer)
                    for _ in range(want):
                        if side == "asking again":
                            nursery.start_soon(
                                _keep_asking, lambda f=front, w=worker: _ask_again(found, f, w), found
                            )
                        else:
                            nursery.start_soon(_keep_asking, lambda f=front: _ask_front(found, f), found)
        return found

    return mock_time.run(main, seed=seed)


def measure_fronts(_: Path) -> Iterator[Figure]:
    """One front with ten times as many clients as each of the others."""
    for wants in ((40, 4), (40, 4, 4, 4, 4)):
        for side in SIDES:
            found = _run_fronts(side, wants)
            is_ours = side == "offers"
            what = f"{len(wants)} fronts, {side}:"
            answers = found.answers.total()
            fair = answers / len(wants)
            # The last words before the end are not in it, which is half an answer per slot.
            idle = 100 * (1 - (answers + SLOTS / 2) / (SLOTS * SECONDS))
            least = min(found.answers[number] for number in range(1, len(wants) + 1))
            small = [wait for front, waits in found.waits.items() if front > 1 for wait in waits]
            yield Figure(
                f"{what} least share, of what is fair",
                100 * least / fair,
                "%",
                90 if is_ours else None,
                is_least=True,
            )
            yield Figure(
                f"{what} refusals per answer", found.refusals / answers, "", 0.2 if is_ours else None
            )
            yield Figure(f"{what} slots idle", max(idle, 0.0), "%", 3 if is_ours else None)
            for percent in (50, 95):
                # Who never gets a slot has no waits that end.
                wait = percentile(small, percent) if len(small) > 1 else math.inf
                yield Figure(f"{what} wait of the small ones, p{percent}", wait, "s")


def _run_keys(tenants: tuple[str, str], seed: int) -> list[tuple[float, int]]:
    """One key sends fifty requests at once, another one a second: of each of those, how long it waited, and
    how many of the fifty were admitted meanwhile."""

    async def main() -> list[tuple[float, int]]:
        admitted: list[float] = []
        ones: list[tuple[float, float]] = []

        async def ask(front: WholeNode, tenant: str, *, is_one: bool) -> None:
            came = trio.current_time()
            answered = await read_answer(
                front.front, make_request(routing=Routing(tenant=tenant), max_tokens=3)
            )
            at = came + answered.waited
            if is_one:
                ones.append((came, at))
            else:
                admitted.append(at)

        async with whole_swarm(MemoryHub(), 2, seed=seed) as swarm:
            await _settle(swarm, seed, has_feeds=True)
            front = swarm.nodes[1]
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(lambda: ask(front, tenants[0], is_one=False))
                for _ in range(12):
                    await trio.sleep(_PAUSE)
                    nursery.start_soon(lambda: ask(front, tenants[1], is_one=True))
        return [(at - came, sum(came < each < at for each in admitted)) for came, at in ones]

    return mock_time.run(main, seed=seed)


def measure_keys(_: Path) -> Iterator[Figure]:
    """Fair shares against first come, first served, which is what one key for all amounts to."""
    for what, tenants in (("two keys", ("a", "b")), ("one key for all", ("a", "a"))):
        runs = [each for seed in range(10) for each in _run_keys(tenants, seed)]
        is_ours = what == "two keys"
        waits = [wait for wait, _ in runs]
        most = max(before for _, before in runs)
        yield Figure(
            f"{what}: of the fifty, admitted before one that came later, at most",
            most,
            "",
            1 if is_ours else None,
        )
        yield Figure(
            f"{what}: wait of who sends one a second, p50 of {len(runs)}", percentile(waits, 50), "s"
        )
        yield Figure(f"{what}: the same, p95", percentile(waits, 95), "s")
        yield Figure(f"{what}: the same, longest", max(waits), "s")


BENCHES = {"fronts": measure_fronts, "keys": measure_keys}

if __name__ == "__main__":
    report(BENCHES, "Measure how fronts and API keys share slots.", PAGE)
