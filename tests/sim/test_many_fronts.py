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
            self.served[front.number] += 1
            self.waited.setdefault(front.number, []).append(answered.answer.queued.seconds)
            self.refused += answered.answer.attempts - 1


async def settled(swarm: WholeSwarm) -> None:
    """The first alone has a worker, and all know."""
    for node in swarm.nodes[1:]:
        node.has_worker = False
    swarm.nodes[0].stub.gap = ANSWER / len(swarm.nodes[0].stub.words)
    await swarm.until(lambda: swarm.all_see("online"), within=30)
    await swarm.until(lambda: all(node.front.models() for node in swarm.nodes), within=30)


@pytest.mark.parametrize(("fronts", "wants"), [(2, (40, 4)), (5, (40, 4, 4, 4, 4))])
def test_fronts_of_one_peer_get_as_much_each_however_much_they_ask_for(
    fronts: int, wants: tuple[int, ...]
) -> None:
    """Each asks for as many at once as it would get alone, and the first for ten times that."""

    async def main() -> Load:
        load = Load(until=120.0)
        async with whole_swarm(MemoryHub(), fronts + 1, seed=1) as swarm:
            await settled(swarm)
            load.until += trio.current_time()
            async with trio.open_nursery() as nursery:
                for front, want in zip(swarm.nodes[1:], wants, strict=True):
                    for _ in range(want):
                        nursery.start_soon(load.keep_asking, front)
            assert swarm.nodes[0].stub.most_running <= SLOTS
            assert not any(front.front.leases._held for front in swarm.nodes)
        return load

    load = mock_time.run(main, seed=1)
    total = load.served.total()
    # What the slots can do in that time, and the last ones that end after it.
    assert total >= 0.95 * SLOTS * 120 / ANSWER
    shares = [load.served[number] / total for number in range(1, fronts + 1)]
    assert min(shares) >= 0.9 / fronts
    assert load.refused <= 0.2 * total
