"""A hundred failure detectors, each linked to 24 to 32 others; of a hundred frames one is lost."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from ledger.liveness_events import FailureReported, LinkLost, PeersKnown
from ledger.rumour import Status
from p2p.peer import PeerId
from tests.sim.liveness_simulator import Faults, LivenessSimulator

SIZE = 100
LINKS_MIN, LINKS_MAX = 24, 32
SETTLED = 15.0
"""Seconds after which all know of each other that they live; all started at once."""


def some_links(nodes: list[PeerId], rng: Random) -> dict[PeerId, set[PeerId]]:
    """Each to at least `LINKS_MIN` others, if any of them has room."""
    links: dict[PeerId, set[PeerId]] = {node: set() for node in nodes}
    for node in nodes:
        while len(links[node]) < LINKS_MIN:
            able = [
                peer for peer in nodes if peer not in links[node] | {node} and len(links[peer]) < LINKS_MAX
            ]
            if not able:
                break
            peer = rng.choice(able)
            links[node].add(peer)
            links[peer].add(node)
    return links


class BoundedSimulator(LivenessSimulator):
    """Not everybody is linked to everybody."""

    def __init__(self, seed: int) -> None:
        self.links: dict[PeerId, set[PeerId]] = {}
        super().__init__(SIZE, seed, Faults(loss=0.01))

    def open_link(self, one: PeerId, other: PeerId) -> None:
        self.links = self.links or some_links(self.nodes, Random(self.rng.random()))
        if other in self.links[one]:
            super().open_link(one, other)

    def neighbours(self, node: PeerId) -> list[PeerId]:
        return sorted(self.links[node])

    def kill(self, node: PeerId) -> None:
        del self.detectors[node]
        for peer in self.neighbours(node):
            heard_after = self.rng.uniform(0.005, 0.2)
            self.happen(peer, FailureReported(node), heard_after)
            self.happen(peer, LinkLost(node), heard_after)

    def latest(self, peer: PeerId, status: Status, since: float) -> float:
        """How long after `since` the last of the others believed it of `peer`."""
        others = self.detectors.keys() - {peer}
        return max(self.first(observer, peer, status, since) for observer in others) - since

    def blamed_by(self, observer: PeerId, since: float) -> Iterator[PeerId]:
        bad = (Status.SUSPECT, Status.OFFLINE)
        return (s.peer for s in self.story if s.observer == observer and s.at >= since and s.status in bad)


@pytest.fixture(params=range(3))
def swarm(request: pytest.FixtureRequest) -> BoundedSimulator:
    simulator = BoundedSimulator(request.param)
    simulator.run(SETTLED)
    assert simulator.all_hold(simulator.nodes, Status.ALIVE)
    return simulator


def test_a_killed_node_is_suspect_for_all_within_a_second(swarm: BoundedSimulator) -> None:
    victim, at = swarm.nodes[40], swarm.now
    swarm.kill(victim)
    swarm.run(2)
    assert swarm.latest(victim, Status.SUSPECT, at) <= 1.0
    swarm.run(10)
    assert swarm.all_hold([victim], Status.OFFLINE)


def test_a_frozen_node_is_suspect_for_all_within_four_seconds(swarm: BoundedSimulator) -> None:
    victim, at = swarm.nodes[40], swarm.now
    swarm.freeze(victim)
    swarm.run(6)
    assert swarm.latest(victim, Status.SUSPECT, at) <= 4.0


def test_a_newcomer_is_alive_for_all_and_knows_all_within_a_few_seconds(swarm: BoundedSimulator) -> None:
    newcomer, everybody = swarm.nodes[40], frozenset(swarm.nodes)
    others = sorted(everybody - {newcomer})
    swarm.kill(newcomer)
    swarm.run(1)
    for peer in others:
        swarm.happen(peer, PeersKnown(everybody - {newcomer, peer}))
        swarm.happen(peer, PeersKnown(everybody - {peer}), after=1.0)
    swarm.run(1)
    at = swarm.now
    swarm.boot(newcomer)
    for peer in swarm.neighbours(newcomer):
        swarm.open_link(newcomer, peer)
    swarm.run(4)
    assert swarm.latest(newcomer, Status.ALIVE, at) <= 4.0
    assert all(swarm.status(newcomer, peer) is Status.ALIVE for peer in others)


@pytest.mark.parametrize("pause", [2.0, 20.0])
@pytest.mark.parametrize("are_links_closed", [False, True])
def test_a_node_that_was_paused_blames_nobody(
    swarm: BoundedSimulator, pause: float, *, are_links_closed: bool
) -> None:
    """Whatever lay unread comes first: `thaw` fires the late timer anywhere among it."""
    sleeper = swarm.nodes[40]
    swarm.freeze(sleeper)
    swarm.run(1)
    if are_links_closed:
        for peer in swarm.neighbours(sleeper):
            swarm.break_link(sleeper, peer)
            swarm.happen(sleeper, FailureReported(peer))
    swarm.run(pause - 1)
    woke_at = swarm.now
    swarm.thaw(sleeper)
    swarm.run(1)
    for peer in swarm.neighbours(sleeper) if are_links_closed else []:
        swarm.open_link(sleeper, peer)
    swarm.run(6)
    assert list(swarm.blamed_by(sleeper, woke_at)) == []
    assert swarm.all_hold(swarm.nodes, Status.ALIVE)
