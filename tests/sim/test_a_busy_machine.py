"""Twenty nodes on one machine that is too slow for a moment: they doubt each other, and recover.

What doubt makes them say costs the machine time, too. If that were more than it has, they would never
answer in time again.
"""

from __future__ import annotations

import pytest

from ledger.rumour import Status
from tests.sim.faults import Faults
from tests.sim.seeds import seeds
from tests.sim.world import World

SIZE = 20
PROBE_COST = 0.0005
"""Seconds. Idle, they use one tenth of the machine: as Python does on one slow core."""
HICCUP = 4.0
"""Seconds in which it computes something else."""
RECOVERED_WITHIN = 15.0
"""Seconds. Patience grows to nine times what it was, and shrinks with each probe that is answered."""
IDLE_SHARE_MAX = 1.25
"""How much more than before they may say after that."""


@pytest.mark.parametrize("seed", seeds(2))
def test_a_swarm_on_a_machine_that_was_busy_recovers(seed: int) -> None:
    world = World(SIZE, seed, Faults(delay_max=0.01, probe_cost=PROBE_COST))
    world.run(20)
    idle = probe_bytes(world, 10)
    world.story.clear()
    world.network.busy_until = world.now + HICCUP
    world.run(HICCUP + 1.0)
    assert any(seen.status is Status.SUSPECT for seen in world.story), "nobody noticed"
    world.run(RECOVERED_WITHIN)
    world.story.clear()
    assert probe_bytes(world, 10) < IDLE_SHARE_MAX * idle
    assert not world.story, "somebody still doubts somebody"
    for node in world:
        assert all(node.status(other.peer) is Status.ALIVE for other in world if other is not node)


def probe_bytes(world: World, seconds: float) -> int:
    """What all together say in the next `seconds`."""
    before = sum(node.sent_probes for node in world)
    world.run(seconds)
    return sum(node.sent_probes for node in world) - before
