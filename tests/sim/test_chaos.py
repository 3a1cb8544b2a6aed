"""Whatever befalls the nodes, the invariants hold; and when it ends, all are one again.

A failing run prints its seed; `SEED=<number>` replays that one alone.
"""

from __future__ import annotations

from itertools import product

import pytest

from ledger.entry import Place
from ledger.records import LEAVE_KEY
from ledger.rumour import Status
from tests.sim.chaos import FAULTS, Chaos
from tests.sim.invariants import Watch
from tests.sim.network import SILENCE_NOTICED
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
    who_left_is_gone(world)
    for fault in faults:
        assert chaos.effect(fault) > 0, f"SEED={seed}: {fault!r} did nothing"
    return watch


def who_left_is_gone(world: World) -> None:
    """For everybody, also for those that were down or apart when it left, or remembered it from their disk.

    A node that was cut off while it left told nobody: then it is down, as far as anybody knows.
    """
    gone = [node for node in world.members if node.has_left]
    if any(left.peer in node.pipes for node, left in product(world, gone)):
        world.run(SILENCE_NOTICED[1])  # Its goodbye did not arrive there.
    for node, left in product(world, gone):
        where = f"SEED={world.seed}: {node.number}, of {left.number}"
        assert node.status(left.peer) is not Status.ALIVE, where
        if node.holds(Place(left.peer, LEAVE_KEY)) is not None:
            assert left.peer not in node.known, where
            assert node.status(left.peer) is Status.UNKNOWN, where


@pytest.mark.parametrize("seed", seeds(20))
def test_a_random_part_of_all_faults_breaks_nothing(seed: int) -> None:
    befall(World(3 + seed % 9, seed), seed)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_alone_breaks_nothing(fault: str) -> None:
    """In good weather, beside writes: what else would happen could hide it."""
    befall(World(6, 1), 1, fault, "write")


def test_all_faults_at_once_break_nothing() -> None:
    watch = befall(World(8, 2), 2, *FAULTS, duration=60.0)
    assert watch.checks > 40


def test_a_process_whose_disk_was_behind_says_again_what_it_remembers_and_nothing_else() -> None:
    """Its peers hold what it wrote last and does not know any more: it overrules that, in the next epoch."""
    world = World(6, 1)
    watch = Watch(world)
    world.run(10)
    writer = world[4]
    writer.write("model/1", b"\x81\xa1n\x01")
    world.run(5)
    world.stall_disk(writer)
    writer.write("model/1", None)
    writer.write("model/2", b"\x81\xa1n\x02")
    world.run(5)
    world.power_off(writer)
    world.run(1)
    lost = writer.replica.state.get(writer.peer, "model/2")
    assert lost is not None
    writer = world.restart(writer)
    watch.end(WELL_WITHIN)
    for node in world:
        held = node.replica.state.get(writer.peer, "model/1")
        assert held is not None
        assert held.value == b"\x81\xa1n\x01"
        assert held.version.epoch > lost.version.epoch
        assert node.replica.state.get(writer.peer, "model/2") is None


def test_who_left_is_forgotten_by_all_and_no_old_disk_brings_it_back() -> None:
    world = World(6, 1)
    watch = Watch(world)
    world.run(10)
    world.power_off(world[5])
    world.run(1)
    world.leave(world[4])
    world.run(2)
    for node in world:
        assert node.status(world[4].peer) is Status.UNKNOWN
        assert node.holds(Place(world[4].peer, LEAVE_KEY)) is not None
        # All else that it said fell with its last epoch.
        assert len(list(node.replica.state.entries_of(world[4].peer))) == 2
    world.restart(world[5])
    assert world[4].peer in world[5].known, "its disk still has it"
    watch.end(WELL_WITHIN)
    who_left_is_gone(world)


def test_a_goodbye_does_not_cross_a_cut() -> None:
    """Who is on the other side notices by silence, as of a machine that lost its power."""
    for end in (World.stop, World.kill, World.leave):
        world = World(6, 1)
        world.run(10)
        island, others = world.members[:3], world.members[3:]
        world.split(island, connections_last=60.0)
        end(world, island[0])
        world.run(0.5)
        assert not island[0].is_running
        assert all(node.status(island[0].peer) is Status.ALIVE for node in others)
        assert all(island[0].peer in node.pipes for node in others)
        world.run(60.0)
        assert not any(island[0].peer in node.pipes for node in others)


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
