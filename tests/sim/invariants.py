"""Invariants: what must hold after each step of any simulation, whatever befell the nodes.

    ownership        nobody holds an entry that its owner did not write
    no way back      of two entries in one place a replica never takes the older one; what is below a floor,
                     and with it what was deleted, never returns
    join             a replica holds the join of what it was given, in any order
    bounds           debts, questions, rumours: nothing grows with uptime
    liveness         nobody who lives and can be reached is called offline for long
    convergence      after quiet all replicas are equal, and everybody who lives is alive to all

A change is checked when it happens, at the cost of a look-up. What takes a walk through
everything is checked now and then, and at the end (`end`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from random import Random

from ledger.claims_digest import ClaimsDigest
from ledger.entry import Entry, Place
from ledger.floor import is_floor
from ledger.records import NODE_KEY
from ledger.replica import BOOT_KEY, Change
from ledger.rumour import UNKNOWN, Status
from ledger.state import LedgerState
from p2p.peer import PeerId
from tests.sim.node import Node
from tests.sim.witness import Witness
from tests.sim.world import World

OFFLINE_MAX = 75.0
"""Seconds for which a peer that is well may be called offline by who is well: the longest back-off of a dial
is 60 s, a dial into the void takes 5 s, and what is missed then comes with a summary within 10 s or so."""

CHECK_INTERVAL = 2.0
"""Seconds between two walks through one node."""

_CONNECTIONS_MAX = 128
"""Of one node (`admission_config.py`)."""


class Watch(Witness):
    """Raises AssertionError the moment something is wrong in its world."""

    def __init__(self, world: World, interval: float = CHECK_INTERVAL) -> None:
        world.witness = self
        self.world = world
        self.liars: set[PeerId] = set()
        """Their own entries are theirs to make up."""
        self.wanted: dict[Place, bytes | None] = {}
        """What each node said last of what is its own."""
        self.checks = 0
        self._interval = interval
        self._rng = Random(world.seed)
        self._written: set[bytes] = set()
        self._held: dict[PeerId, dict[Place, tuple[object, bytes]]] = defaultdict(dict)
        self._floors: dict[tuple[PeerId, PeerId], int] = defaultdict(int)
        self._given: dict[PeerId, list[Entry]] = defaultdict(list)
        self._offline_since: dict[tuple[PeerId, PeerId], float] = {}
        self._disturbed_at: dict[PeerId, float] = defaultdict(float)
        self._all_disturbed_at = 0.0
        world.timeline.at(world.now + interval, self._now_and_then)

    # What happens.

    def begins_with(self, written: list[Entry]) -> None:
        """All replicas hold these from the start."""
        self._written.update(entry.digest for entry in written)
        for node in self.world:
            self._given[node.peer] = list(written)

    def said(self, node: Node, key: str, value: bytes | None) -> None:
        self.wanted[Place(node.peer, key)] = value

    def disturbed(self, node: Node | None) -> None:
        """Something befell `node`, or everybody."""
        if node is None:
            self._all_disturbed_at = self.world.now
        else:
            self._disturbed_at[node.peer] = self.world.now

    def is_liar(self, node: Node) -> None:
        self.liars.add(node.peer)

    def restarted(self, node: Node, *, has_disk: bool) -> None:
        """A fresh process holds what its disk kept, and is bound by nothing else."""
        self.disturbed(node)
        restored = list(node.replica.state.entries())
        self._given[node.peer] = restored
        self._held[node.peer] = {entry.place: entry.rank for entry in restored}
        for pair in [pair for pair in self._floors if pair[0] == node.peer]:
            del self._floors[pair]
        for pair in [pair for pair in self._offline_since if pair[0] == node.peer]:
            del self._offline_since[pair]
        if not has_disk:
            for place in [place for place in self.wanted if place.owner == node.peer]:
                self.wanted[place] = None

    def status_changed(self, observer: Node, peer: PeerId, status: Status) -> None:
        if status is Status.OFFLINE:
            self._offline_since[observer.peer, peer] = self.world.now
        else:
            self._offline_since.pop((observer.peer, peer), None)

    def ledger_changed(self, node: Node, change: Change) -> None:
        entry = change.entry
        pair = node.peer, entry.owner
        if not change.is_in:
            self._floors[pair] = max(self._floors[pair], entry.version.epoch + 1)
            return
        if change.source is None:
            self._require(entry.writer == node.peer, f"{node.peer} wrote as {entry.writer}")
            self._written.add(entry.digest)
        else:
            is_genuine = entry.digest in self._written or entry.writer in self.liars
            self._require(is_genuine, f"{node.peer} holds what {entry.owner} never wrote: {entry}")
        held = self._held[node.peer].get(entry.place)
        self._require(held is None or held < entry.rank, f"{node.peer} went back in {entry.place}")
        is_above = is_shared(entry) or entry.version.epoch >= self._floors[pair]
        self._require(is_above, f"{node.peer} took what is below a floor: {entry}")
        self._held[node.peer][entry.place] = entry.rank
        self._given[node.peer].append(entry)

    # Walks.

    def _now_and_then(self, _: None, __: None) -> None:
        nodes = list(self.world)
        if nodes:
            self.check(self._rng.choice(nodes))
        self._check_liveness()
        self.world.timeline.at(self.world.now + self._interval, self._now_and_then)

    def check(self, node: Node) -> None:
        """Walk through all that `node` holds."""
        self.checks += 1
        self._check_bounds(node)
        beliefs, state = node.detector.beliefs, node.replica.state
        digest = ClaimsDigest()
        for rumour in beliefs.claims():
            digest.change(rumour.peer, UNKNOWN, rumour.claim)
        is_digest_right = digest.to_bytes() == beliefs.digest.to_bytes()
        self._require(is_digest_right, f"{node.peer}: the digest is not that of its claims")
        alive = sum(health.status is Status.ALIVE for health in beliefs.peers.values())
        self._require(alive == beliefs._alive, f"{node.peer} miscounts the living")
        suspects = {peer for peer, health in beliefs.peers.items() if health.status is Status.SUSPECT}
        self._require(suspects == set(beliefs.deadlines._at), f"{node.peer}: a suspect without a deadline")
        size = sum(len(entry.encoded) for entry in state.entries())
        self._require(size == state.size, f"{node.peer} miscounts its ledger")
        if node.peer not in self.liars:
            self._check_join(node)

    def _check_join(self, node: Node) -> None:
        given = list(self._given[node.peer])
        self._rng.shuffle(given)
        join = LedgerState(node.peer, self.world.proofs, self.world.settings.limits)
        for entry in (*given, *given[: len(given) // 2]):
            join.apply(entry)
        is_equal = join.root_digest() == node.replica.state.root_digest()
        self._require(is_equal, f"{node.peer} does not hold the join of what it was given")

    def _check_bounds(self, node: Node) -> None:
        peers, links = len(node.detector.beliefs.peers), len(node.pipes)
        probing, relays = node.detector._probing, node.detector._relays
        entries = sum(1 for _ in node.replica.state.entries())
        owners_max, owner_entries_max = node.replica.state.limits.owners_max, 1024
        measured = {
            # One about somebody who was forgotten ends when its answer is due.
            "questions": (len(probing._questions), len(self.world.members)),
            "relays": (len(relays._relays), node.detector.config.relays_max),
            "rumours": (len(node.detector.beliefs._urgent._told), peers + 1),
            "idle rumours": (len(node.detector.beliefs._idle._told), peers + 1),
            "debts": (
                node.spread.debts,
                (links + 1) * (2 * entries + 4 * owners_max + 4 * owner_entries_max),
            ),
            "connections": (links, _CONNECTIONS_MAX + len(self.world.members)),
        }
        for what, (count, most) in measured.items():
            self._require(count <= most, f"{node.peer} has {count} {what}, more than {most}")

    def _check_liveness(self) -> None:
        world = self.world
        for (observer, peer), since in self._offline_since.items():
            if observer not in world.nodes or peer not in world.nodes:
                continue
            quiet_since = max(self._quiet_since(observer), self._quiet_since(peer), since)
            is_long = world.now - quiet_since > OFFLINE_MAX
            self._require(not is_long, f"{observer} calls {peer} offline since {since:.1f}, and it is well")

    def _quiet_since(self, peer: PeerId) -> float:
        node, faults = self.world.nodes[peer], self.world.faults
        is_disturbed = node.is_paused or node.is_deaf or faults.island or faults.cut or peer in faults.slow
        return math.inf if is_disturbed else max(self._disturbed_at[peer], self._all_disturbed_at)

    # The end.

    def end(self, within: float) -> float:
        """Let it be quiet until all is well. Returns after how many seconds, at most `within`, it was."""
        world, begun = self.world, self.world.now
        while not (world.all_hold(world, Status.ALIVE) and world.are_ledgers_equal()):
            self._require(world.now < begun + within, f"not well after {within} s: {self._what_is_wrong()}")
            world.run(1.0)
        for node in world:
            self.check(node)
            self._check_said(node)
        return world.now - begun

    def _check_said(self, node: Node) -> None:
        """What the living said last is what holds, here as everywhere: a deletion too."""
        for place, value in self.wanted.items():
            if self._is_honest(place.owner):
                held = node.holds(place)
                self._require(held == value, f"{node.peer} holds {held!r} at {place}, not {value!r}")
        for entry in node.replica.state.entries():
            is_plain = entry.key not in (BOOT_KEY, NODE_KEY) and not is_floor(entry) and not is_shared(entry)
            if is_plain and not entry.deleted and self._is_honest(entry.owner):
                is_said = self.wanted.get(entry.place) == entry.value
                self._require(is_said, f"{node.peer} holds what came back from the dead: {entry}")

    def _is_honest(self, owner: PeerId) -> bool:
        return owner in self.world.nodes and owner not in self.liars

    def _what_is_wrong(self) -> str:
        doubts = [
            f"{observer.number} thinks {peer.number} {observer.status(peer.peer).name}"
            for observer in self.world
            for peer in self.world
            if observer is not peer and observer.status(peer.peer) is not Status.ALIVE
        ]
        roots = len({node.replica.state.root_digest() for node in self.world})
        return f"{len(doubts)} doubts ({'; '.join(doubts[:8])}); {roots} different ledgers"

    def _require(self, holds: bool, problem: str) -> None:
        assert holds, f"SEED={self.world.seed}, {self.world.now:.3f} s: {problem}"


def is_shared(entry: Entry) -> bool:
    """Whether `entry` is the swarm's."""
    return entry.owner != entry.writer
