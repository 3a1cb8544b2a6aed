"""Whoever comes, goes and writes meanwhile: a node that stays holds no more at the end than at half-time.

Counts everything in every container that its cores reach, so it knows of none by name.
"""

from __future__ import annotations

from random import Random

import pytest

from ledger.failure_detector import FailureDetector
from p2p.peer import PeerId
from tests.sim.holdings import held
from tests.sim.invariants import Watch
from tests.sim.world import World

STAYING = 3
"""The first so many run all the time."""

CYCLES = 25
"""Until half-time: three minutes, in which each of the others is somebody new several times."""

GROWTH_MAX = 1.05
"""What waits for a floor differs: 16 deletions of an owner at most."""


def live_through(world: World, cycles: int) -> None:
    """Others come and go, with and without their disk, and everybody writes, deletes and writes again."""
    rng = Random(world.seed)
    for _ in range(cycles):
        guest = rng.choice(world.members[STAYING:])
        stop = rng.choice((world.kill, world.stop, world.power_off))
        stop(guest)
        for node in world:
            node.write(
                f"model/{rng.randrange(4)}", rng.choice((None, b"\x81\xa1n" + bytes([rng.randrange(99)])))
            )
        world.run(rng.uniform(1.0, 6.0))
        world.restart(guest, has_disk=rng.random() < 0.7)
        world.run(rng.uniform(1.0, 3.0))
    world.run(90.0)


def growth(seed: int) -> float:
    """By which factor what those who stay hold grows in the second half of a run."""
    world = World(7, seed)
    watch = Watch(world)
    world.run(10)
    amounts = []
    for _ in range(2):
        live_through(world, CYCLES)
        amounts.append(sum(held(node) for node in world.members[:STAYING]))
    for node in world:
        watch.check(node)
    return amounts[1] / amounts[0]


def test_a_node_that_stays_holds_as_much_at_the_end_as_at_half_time() -> None:
    assert growth(1) < GROWTH_MAX


def test_a_core_that_remembers_each_visit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    meet = FailureDetector._on_link

    def remember(self: FailureDetector, peer: PeerId, now: float) -> None:
        meet(self, peer, now)
        self.__dict__.setdefault("visits", []).append(now)

    monkeypatch.setattr(FailureDetector, "_on_link", remember)
    assert growth(1) > GROWTH_MAX
