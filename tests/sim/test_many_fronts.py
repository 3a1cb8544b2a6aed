"""Many fronts on few slots, as whole nodes: they share by turns, and neither starve nor overbook it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio

from federation.errors import FederationError
from p2p.memory_network import MemoryHub
from tests import mock_time
from tests.federation.conftest import make_request, read_answer
from tests.sim.whole_swarm import WholeNode, WholeSwarm, whole_swarm

ANSWER = 1.0
"""Seconds that one takes."""
SLOTS = 4
SECONDS = 60.0


@dataclass
class Load:
    """Requests of some fronts, as they come back."""

    served: Counter[int] = field(default_factory=Counter)
    """Answers, by the number of the front."""
    waited: dict[int, list[float]] = field(default_factory=dict)
    refused: int = 0
    failures: list[FederationError] = field(default_factory=list)
    until: float = 0.0

    async def keep_asking(self, front: WholeNode) -> None:
        """One request after the other."""
        while trio.current_time() < self.until:
            answered = await read_answer(front.front, make_request())
            if trio.current_time() > self.until:
                return
            self.served[front.number] += 1
            self.waited.setdefault(front.number, []).append(answered.waited)
            self.refused += answered.answer.attempts - 1


async def settled(swarm: WholeSwarm) -> None:
    """The first alone has a worker, and all know."""
    for node in swarm.nodes[1:]:
        node.has_worker = False
    swarm.nodes[0].stub.gap = ANSWER / len(swarm.nodes[0].stub.words)
    await swarm.until(lambda: swarm.all_see("online"), within=30)
    await swarm.until(lambda: all(node.front.models() for node in swarm.nodes), within=30)


def run_fronts(wants: tuple[int, ...], *, use_own_workers: bool) -> Load:
    """Each front has as many clients as `wants` says, the first one's node the only worker."""

    async def main() -> Load:
        load = Load(until=SECONDS)
        fronts = len(wants) if use_own_workers else len(wants) + 1
        async with whole_swarm(MemoryHub(), fronts, seed=1, use_own_workers=use_own_workers) as swarm:
            await settled(swarm)
            load.until += trio.current_time()
            async with trio.open_nursery() as nursery:
                for front, want in zip(swarm.nodes[-len(wants) :], wants, strict=True):
                    for _ in range(want):
                        nursery.start_soon(load.keep_asking, front)
            assert swarm.nodes[0].stub.most_running <= SLOTS
            assert not any(front.front.leases._held for front in swarm.nodes)
        return load

    return mock_time.run(main, seed=1)


@pytest.mark.parametrize(
    ("wants", "use_own_workers"),
    [((40, 4), False), ((40, 4, 4, 4, 4), False), ((40, 4), True), ((4, 40), True)],
)
def test_fronts_of_one_peer_get_as_much_each_however_much_they_ask_for(
    wants: tuple[int, ...], use_own_workers: bool
) -> None:
    """One of them asks for ten times what the others do, and where one is the peer's own, it gets no more."""
    load = run_fronts(wants, use_own_workers=use_own_workers)
    total = load.served.total()
    assert total >= 0.95 * SLOTS * SECONDS / ANSWER
    assert min(load.served.values()) >= 0.9 * total / len(wants)
    assert len(load.served) == len(wants)
    assert load.refused <= 0.2 * total


@pytest.mark.parametrize("use_own_workers", [False, True])
def test_a_request_for_all_slots_at_once_gets_them_although_another_front_fills_them_one_by_one(
    *, use_own_workers: bool
) -> None:
    async def main() -> list[float]:
        load, waited = Load(), []
        async with whole_swarm(MemoryHub(), 3, seed=1, use_own_workers=use_own_workers) as swarm:
            await settled(swarm)
            load.until = trio.current_time() + SECONDS
            busy, asking = (swarm.nodes[0] if use_own_workers else swarm.nodes[1]), swarm.nodes[2]
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(load.keep_asking, busy)
                    await trio.sleep(ANSWER / 10)
                for _ in range(3):
                    came = trio.current_time()
                    await read_answer(asking.front, make_request(choices=SLOTS))
                    waited.append(trio.current_time() - came)
            assert load.served[busy.number] > SECONDS * SLOTS / ANSWER / 2
        return waited

    # Eight are let past it, and the slots of those that run then are kept; it takes a second itself.
    assert max(mock_time.run(main, seed=1)) < 8 * ANSWER
