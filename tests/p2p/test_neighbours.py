"""However a node's links come about, it has neither too few nor too many, and the swarm stays one."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from random import Random

import pytest

from p2p.neighbours import Neighbours, NeighboursConfig
from p2p.peer import PeerId

CONFIG = NeighboursConfig(min=6, max=8)
SETTLED = CONFIG.settle_time


def peers(count: int) -> list[PeerId]:
    return [PeerId(f"{number:04}") for number in range(count)]


def view_of(count: int, since: float = 0.0, config: NeighboursConfig = CONFIG) -> Neighbours:
    neighbours = Neighbours(Random(1), config)
    for number, peer in enumerate(peers(count)):
        neighbours.came(peer, since, is_chosen=number % 2 == 0)
    return neighbours


def test_in_a_small_swarm_everybody_is_wanted() -> None:
    assert view_of(3).wanted(strangers=5, under_way=0) == 5
    assert view_of(7).wanted(strangers=1, under_way=0) == 1


def test_in_a_large_swarm_strangers_are_wanted_up_to_the_least_number() -> None:
    assert view_of(0).wanted(strangers=100, under_way=0) == 6
    assert view_of(3).wanted(strangers=100, under_way=2) == 1
    assert view_of(6).wanted(strangers=100, under_way=0) == 0
    assert view_of(5).wanted(strangers=100, under_way=4) == 0


def test_nobody_is_let_go_up_to_the_most() -> None:
    neighbours = view_of(8)
    assert neighbours.let_go((), SETTLED) == []
    assert neighbours.wake_at > SETTLED


def test_for_each_above_the_most_one_that_is_settled_and_idle_goes() -> None:
    neighbours = view_of(8)
    neighbours.came(PeerId("new"), SETTLED, is_chosen=False)
    neighbours.came(PeerId("newer"), SETTLED, is_chosen=False)
    in_use = set(peers(6))
    assert set(neighbours.let_go(in_use, SETTLED)) == {"0006", "0007"}


def test_somebody_is_wanted_until_enough_are_chosen_by_ourselves() -> None:
    neighbours = Neighbours(Random(1), CONFIG)
    for peer in peers(8):
        neighbours.came(peer, 0.0, is_chosen=False)
    assert neighbours.wanted(strangers=100, under_way=0) == CONFIG.reserve
    assert neighbours.wanted(strangers=0, under_way=0) == 0
    neighbours.came(PeerId("chosen"), 0.0, is_chosen=True)
    assert neighbours.wanted(strangers=100, under_way=0) == CONFIG.reserve - 1


@pytest.mark.parametrize("liars", [33, 130])
@pytest.mark.parametrize("trick", ["use", "hop"])
def test_however_many_identities_come_those_that_stand_longest_stay(liars: int, trick: str) -> None:
    """They keep us in use, or leave and come back before they have settled."""
    neighbours = view_of(30, config=NeighboursConfig())
    honest = set(neighbours.peers)
    ours = [PeerId(f"liar {number}") for number in range(liars)]
    for second in range(100, 400):
        for number, liar in enumerate(ours):
            if trick == "hop" and number % 4 == second % 4:
                neighbours.went(liar)
            if liar not in neighbours.peers:
                neighbours.came(liar, float(second), is_chosen=False)
        for gone in neighbours.let_go(set(ours) if trick == "use" else (), float(second)):
            neighbours.went(gone)
    assert len(honest & set(neighbours.peers)) >= 2 * neighbours.config.reserve
    assert len(neighbours.peers) <= 2 * neighbours.config.max


def test_while_all_are_new_or_in_use_it_is_looked_again_later() -> None:
    neighbours = view_of(9)
    assert neighbours.wake_at == 0.0
    assert neighbours.let_go((), 0.0) == []
    assert neighbours.wake_at == CONFIG.look_interval
    assert neighbours.let_go(peers(9), SETTLED) == []
    (gone,) = neighbours.let_go((), SETTLED + CONFIG.look_interval)
    neighbours.went(gone)
    assert gone not in neighbours.peers
    assert neighbours.let_go((), 100.0) == []


def test_in_a_rush_a_sample_of_all_is_kept_and_the_newest() -> None:
    neighbours = Neighbours(Random(1), CONFIG)
    for number, peer in enumerate(peers(100)):
        neighbours.came(peer, number * 0.01, is_chosen=False)
        for gone in neighbours.let_go((), number * 0.01):
            assert gone != peer
            neighbours.went(gone)
    assert len(neighbours.peers) == 2 * CONFIG.max
    assert min(neighbours.peers) < "0070"


def test_a_feeler_goes_out_now_and_then_and_once_each_time() -> None:
    neighbours = Neighbours(Random(1), CONFIG)
    assert neighbours.wake_at == inf
    neighbours.came(PeerId("a"), 0.0, is_chosen=True)
    now, felt = 0.0, 0
    while now < 100 * CONFIG.feeler_interval:
        now = neighbours.wake_at
        felt += neighbours.next_feeler(now)
        assert not neighbours.next_feeler(now)
    assert 80 < felt < 120


class Graph:
    """Bare nodes that know everybody, dial in no time, and take everybody in."""

    def __init__(self, seed: int, count: int) -> None:
        self.rng = Random(seed)
        self.nodes = {peer: Neighbours(Random(f"{seed} {peer}"), CONFIG) for peer in peers(count)}
        self.alive = set(self.nodes)

    def run(self, seconds: range) -> None:
        for second in seconds:
            for peer in sorted(self.alive):
                self.tend(peer, float(second))

    def tend(self, me: PeerId, now: float) -> None:
        node = self.nodes[me]
        for peer in node.let_go((), now):
            self.part(me, peer)
        strangers = [peer for peer in self.nodes if peer != me and peer not in node.peers]
        hopeful = [peer for peer in strangers if peer in self.alive]
        wanted = node.wanted(len(hopeful), under_way=0)
        dialled = self.rng.sample(strangers, min(wanted, len(strangers)))
        if not wanted and strangers and node.next_feeler(now):
            dialled = [self.rng.choice(strangers)]
        for peer in dialled:
            if peer in self.alive:
                node.came(peer, now, is_chosen=True)
                self.nodes[peer].came(me, now, is_chosen=False)

    def part(self, one: PeerId, other: PeerId) -> None:
        self.nodes[one].went(other)
        self.nodes[other].went(one)

    def kill(self, dead: Iterable[PeerId]) -> None:
        for peer in dead:
            self.alive.discard(peer)
            for other in list(self.nodes[peer].peers):
                self.part(peer, other)

    def degrees(self) -> list[int]:
        return sorted(len(self.nodes[peer].peers) for peer in self.alive)

    def is_one(self) -> bool:
        start = min(self.alive)
        seen, front = {start}, [start]
        while front:
            new = set(self.nodes[front.pop()].peers) - seen
            seen |= new
            front += new
        return seen == self.alive


def assert_within_bounds(graph: Graph) -> None:
    fewest, *_, most = graph.degrees()
    assert fewest >= CONFIG.min - 2, "who was let go in this second finds somebody in the next"
    assert most <= CONFIG.max + 3, "feelers come in any second, and the look for whom to let go follows"


@pytest.mark.parametrize("seed", range(3))
def test_links_of_a_large_swarm_stay_within_bounds_and_hold_it_together(seed: int) -> None:
    graph = Graph(seed, 200)
    graph.run(range(60))
    assert graph.is_one()
    assert_within_bounds(graph)


@pytest.mark.parametrize("seed", range(3))
def test_half_of_a_swarm_dies_and_the_rest_is_one_again(seed: int) -> None:
    graph = Graph(seed, 200)
    graph.run(range(60))
    graph.kill(graph.rng.sample(sorted(graph.alive), 100))
    graph.run(range(60, 70))
    assert graph.is_one()
    assert_within_bounds(graph)


@pytest.mark.parametrize("count", range(2, 10))
def test_a_small_swarm_is_a_full_mesh(count: int) -> None:
    graph = Graph(1, count)
    graph.run(range(60))
    assert graph.degrees() == [count - 1] * count
