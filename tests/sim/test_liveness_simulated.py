"""The failure detector among others, on a bad network: what it must see, and what it must never say.

A failing run prints its seed; `SEED=<number>` replays that one alone.
"""

from __future__ import annotations

import math
from random import Random

import pytest

from ledger.rumour import Status
from tests.sim.faults import Faults
from tests.sim.node import Node
from tests.sim.seeds import seeds
from tests.sim.settled import settled as settled_for_long
from tests.sim.world import Seen, World

SEEDS = seeds(5)

SETTLED = 10.0
"""Seconds after which everybody has met everybody."""


def settled(size: int, seed: int, loss: float = 0.0) -> World:
    """`size` nodes that found each other by themselves, through the first one."""
    world = World(size, seed)
    world.run(SETTLED)
    assert world.all_hold(world, Status.ALIVE)
    world.faults.loss = loss
    return world


def first(world: World, observer: Node, peer: Node, status: Status, since: float = 0.0) -> float:
    """When `observer` first believed it, or infinity."""
    times = [
        seen.at
        for seen in world.said(status, since)
        if (seen.observer, seen.peer) == (observer.peer, peer.peer)
    ]
    return min(times, default=math.inf)


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_delay_alone_make_nobody_offline(seed: int) -> None:
    world = settled(10, seed, loss=0.05)
    world.run(120)
    assert world.said(Status.OFFLINE) == []


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_node_is_suspect_for_all_within_a_second_and_offline_within_five(
    seed: int, size: int
) -> None:
    world = settled(size, seed)
    victim = Random(seed).choice(world.members)
    world.kill(victim)
    world.run(1.0)
    assert not any(world.status(observer, victim) is Status.ALIVE for observer in world)
    world.run(4.0)
    assert world.all_hold([victim], Status.OFFLINE)


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_frozen_node_is_suspect_for_all_within_three_seconds(seed: int, size: int) -> None:
    world = settled(size, seed, loss=0.01)
    victim = Random(seed).choice(world.members)
    frozen_at = world.now
    world.pause(victim)
    world.run(10.0)
    for observer in world:
        if observer is not victim:
            assert first(world, observer, victim, Status.SUSPECT, frozen_at) <= frozen_at + 3.0


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_wakes_blames_nobody_and_is_back_within_two_seconds(seed: int, size: int) -> None:
    world = settled(size, seed)
    sleeper = Random(seed).choice(world.members)
    world.pause(sleeper)
    world.run(60.0)
    woke_at = world.now
    world.resume(sleeper)
    world.run(2.0)
    assert world.all_hold(world, Status.ALIVE)
    assert verdicts(world, woke_at, besides=sleeper) == []


def verdicts(world: World, since: float, besides: Node) -> list[Seen]:
    """What was held against anybody but one."""
    return [
        seen
        for seen in world.story
        if seen.at >= since and seen.peer != besides.peer and seen.status is not Status.ALIVE
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_path_that_works_one_way_only_makes_nobody_offline(seed: int) -> None:
    world = settled(5, seed)
    mute, deaf, *_ = world.members
    world.faults.cut.add((mute.peer, deaf.peer))
    world.run(120)
    assert world.said(Status.OFFLINE) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_two_halves_lose_each_other_and_find_each_other_again(seed: int) -> None:
    world = settled(8, seed)
    left, right = world.members[:4], world.members[4:]
    world.split(left, connections_last=1.0)
    world.run(30)
    assert all(world.status(a, b) is Status.OFFLINE for a in left for b in right)
    assert all(world.status(a, b) is Status.ALIVE for a in left for b in left if a is not b)
    world.heal()
    world.connect_all(left, right)
    world.run(2)
    assert world.all_hold(world, Status.ALIVE)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_halves_that_nobody_leads_together_dial_each_other_within_a_minute(seed: int) -> None:
    world = settled(8, seed)
    world.split(world.members[:4])
    world.run(60)
    world.heal()
    world.run(65)
    assert world.all_hold(world, Status.ALIVE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_peer_without_a_link_is_found_through_others(seed: int) -> None:
    """Two nodes lose their connection for good; everybody else can reach both."""
    world = settled(5, seed)
    one, other, *_ = world.members
    world.faults.cut |= {(one.peer, other.peer), (other.peer, one.peer)}
    world.network.break_connection(one, other)
    world.run(60)
    assert other.peer not in one.pipes
    assert world.all_hold(world, Status.ALIVE)
    assert world.said(Status.OFFLINE) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restarted_node_is_alive_again_for_all(seed: int) -> None:
    """It remembers no incarnation, and all others hold something against its old one."""
    world = settled(6, seed)
    for _ in range(3):
        world.kill(world[2])
        world.run(8)
        assert world.all_hold([world[2]], Status.OFFLINE)
        fresh = world.restart(world[2])
        world.connect_all([fresh], world)
        world.run(1)
        assert world.all_hold(world, Status.ALIVE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_says_goodbye_is_offline_for_all_at_once(seed: int) -> None:
    world = settled(10, seed)
    world.stop(world[3])
    world.run(0.2)
    assert world.all_hold([world[3]], Status.OFFLINE)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_in_a_swarm_where_nobody_knows_everybody_a_death_is_known_to_all(seed: int) -> None:
    world = settled_for_long(100, seed, Faults(loss=0.01))
    victim = world[50]
    assert len(victim.pipes) <= 33
    killed_at = world.now
    world.kill(victim)
    world.run(1.0)
    assert not any(world.status(observer, victim) is Status.ALIVE for observer in world)
    world.run(8.0)
    assert world.all_hold([victim], Status.OFFLINE)
    assert verdicts(world, killed_at, besides=victim) == []


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_who_lets_a_neighbour_go_accuses_nobody(seed: int) -> None:
    """Sixty nodes meet through one, and each keeps some thirty: the others are told goodbye, and live."""
    world = World(50, seed)
    world.run(40)
    assert max(len(node.pipes) for node in world) <= 33
    assert world.all_hold(world, Status.ALIVE)
    assert world.said(Status.SUSPECT) == []
