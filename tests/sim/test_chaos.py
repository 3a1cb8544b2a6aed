"""Whatever befalls the nodes, the invariants hold; and when it ends, all are one again.

A failing run prints its seed; `SEED=<number>` replays that one alone.
"""

from __future__ import annotations

import pytest

from tests.sim.chaos import FAULTS, Chaos
from tests.sim.invariants import Watch
from tests.sim.seeds import seeds
from tests.sim.world import World

WELL_WITHIN = 120.0
"""Seconds of quiet after which all must agree: twice the longest back-off of a dial."""


def befall(world: World, seed: int, *faults: str, duration: float = 30.0) -> Watch:
    """Let these faults (or some, chosen by the seed) happen for a while, and then let all become well."""
    watch = Watch(world)
    world.run(10)
    chaos = Chaos(world, seed)
    chaos.chosen = sorted(faults) or chaos.chosen
    chaos.run(duration)
    watch.end(WELL_WITHIN)
    return watch


@pytest.mark.parametrize("seed", seeds(20))
def test_a_random_part_of_all_faults_breaks_nothing(seed: int) -> None:
    befall(World(3 + seed % 9, seed), seed)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_alone_breaks_nothing(fault: str) -> None:
    befall(World(6, 1), 1, fault, "write")


def test_all_faults_at_once_break_nothing() -> None:
    watch = befall(World(8, 2), 2, *FAULTS, duration=60.0)
    assert watch.checks > 40


@pytest.mark.parametrize("seed", seeds(1))
def test_a_swarm_that_is_not_fully_connected_outlives_faults(seed: int) -> None:
    befall(World(45, seed), seed, "kill", "pause", "split", "stop", "write", duration=20.0)


@pytest.mark.parametrize("seed", seeds(3))
def test_churn_without_end_grows_nothing(seed: int) -> None:
    """Everybody is restarted many times over: what nodes hold is what the living say, and no more."""
    world = World(6, seed)
    watch = befall(world, seed, "kill", "kill, disk lost", "stop", "write", duration=300.0)
    for node in world:
        watch.check(node)
        entries = len(list(node.replica.state.entries()))
        # Each says its record, its boot id, a floor, at most four keys, and keeps at most 17 deletions.
        assert entries <= 6 * 24
