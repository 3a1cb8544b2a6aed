"""A hundred nodes, each linked to some thirty others; of a hundred frames one is lost."""

from __future__ import annotations

import pytest

from ledger.rumour import Status
from tests.sim.faults import Faults
from tests.sim.node import Node
from tests.sim.seeds import seeds
from tests.sim.settled import settled
from tests.sim.world import World

SIZE = 100
DOUBTS = (Status.SUSPECT, Status.OFFLINE)


@pytest.fixture(params=seeds(1))
def world(request: pytest.FixtureRequest) -> World:
    seed: int = request.param
    return settled(SIZE, seed, Faults(loss=0.01))


def latest(world: World, peer: Node, status: Status, since: float) -> float:
    """How long after `since` the last of the others believed it of `peer`."""
    at: dict[str, float] = {}
    for seen in world.said(status, since):
        if seen.peer == peer.peer:
            at.setdefault(seen.observer, seen.at)
    return max(at[observer.peer] for observer in world if observer is not peer) - since


def test_a_killed_node_is_suspect_for_all_within_a_second(world: World) -> None:
    victim, at = world[40], world.now
    world.kill(victim)
    world.run(2)
    assert latest(world, victim, Status.SUSPECT, at) <= 1.0
    world.run(10)
    assert world.all_hold([victim], Status.OFFLINE)


def test_a_frozen_node_is_suspect_for_all_within_four_seconds(world: World) -> None:
    victim, at = world[40], world.now
    world.pause(victim)
    world.run(6)
    assert latest(world, victim, Status.SUSPECT, at) <= 4.0


def test_a_newcomer_knows_all_within_two_seconds_and_is_known_by_all_within_fifteen(world: World) -> None:
    newcomer = world.join(world[7])
    world.run(2)
    assert all(newcomer.status(node.peer) is Status.ALIVE for node in world if node is not newcomer)
    # Who heard that it lives before it heard who it is asks again with a summary, every ten seconds or so.
    world.run(13)
    assert world.all_hold([newcomer], Status.ALIVE)


def test_who_was_cut_off_from_all_comes_back_and_accuses_only_those_it_had_links_to(world: World) -> None:
    lone = world[40]
    neighbours = set(lone.pipes)
    world.faults.island = frozenset({lone.peer})
    world.run(180)
    world.faults.heal()
    healed_at = world.now
    world.run(30)
    doubted = {seen.peer for status in DOUBTS for seen in world.said(status, healed_at)}
    assert doubted <= neighbours | {lone.peer}
    assert world.all_hold(world, Status.ALIVE)


@pytest.mark.parametrize("pause", [2.0, 20.0])
@pytest.mark.parametrize("are_links_closed", [False, True])
def test_a_node_that_was_paused_blames_nobody(world: World, pause: float, *, are_links_closed: bool) -> None:
    sleeper = world[40]
    world.pause(sleeper)
    world.run(1)
    if are_links_closed:
        for pipe in list(sleeper.pipes.values()):
            world.network.break_connection(sleeper, pipe.target)
    world.run(pause - 1)
    woke_at = world.now
    world.resume(sleeper)
    world.run(7)
    said = [seen for status in DOUBTS for seen in world.said(status, woke_at)]
    assert [seen for seen in said if seen.observer == sleeper.peer] == []
    world.run(2)
    assert world.all_hold(world, Status.ALIVE)
