"""Invariants: what must hold after each step of any simulation, whatever befell the nodes.

    ownership        nobody holds an entry that its owner did not write
    no way back      of two entries in one place a replica never takes the older one; what is below a floor,
                     and with it what was deleted, never returns
    join             a replica holds the join of what it was given, in any order
    bounds           debts, questions, allowances: no more than the world at hand accounts for
    liveness         nobody who is well is called offline for long, and without a reason not at all;
                     nobody who is dead is believed in for long
    convergence      after quiet all replicas are equal, and everybody who lives is alive to all

A change is checked when it happens, at the cost of a look-up. What takes a walk through
everything is checked now and then, and at the end (`end`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from random import Random

from ledger.beliefs import STRANGERS_MAX
from ledger.claims_digest import ClaimsDigest
from ledger.entry import Entry, Place
from ledger.floor import is_floor
from ledger.records import NODE_KEY
from ledger.replica import BOOT_KEY, Change
from ledger.rumour import UNKNOWN, Status
from ledger.state import LedgerState
from ledger.sync import WANTED_MAX
from p2p.peer import PeerId
from tests.sim.node import Node
from tests.sim.witness import Witness
from tests.sim.world import World

AFTERMATH = 75.0
"""Seconds until all is put right that a cut, or a death, left behind: the longest back-off of a dial
is 60 s, a dial into the void takes 5 s, and what is missed then comes with a summary within 10 s or so."""

LOSS_BORNE = 0.05
"""Share of lost frames that makes nobody be called offline."""

CHECK_INTERVAL = 2.0
"""Seconds between two walks through one node."""

_BUCKETS_OWED = 8
"""In small worlds few owners differ at a time, so few buckets do."""

_LOOK_INTERVAL = 0.5
"""Seconds between looks at the weather: no fault of `chaos.py` passes faster than in one second."""


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
        self._blamed: list[tuple[Node, PeerId]] = []
        """Who called whom offline for no reason, since the last look."""
        self._down_since: dict[PeerId, float] = {}
        self._disturbed_at: dict[PeerId, float] = defaultdict(lambda: -math.inf)
        self._all_disturbed_at = -math.inf
        self._bad_weather_at = -math.inf
        """When something went on last that makes nodes blame others, or lose sight of them."""
        world.timeline.at(world.now + interval, self._now_and_then)
        self._look(None, None)

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
        self._down_since.pop(node.peer, None)  # Between two looks it may end again.
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
            if not self._is_excused(peer):
                self._blamed.append((observer, peer))
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
        if node.peer not in self.liars:
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
        for what, (count, most) in measure(node, self._invented).items():
            self._require(count <= most, f"{node.peer} has {count} {what}, more than {most}")

    @property
    def _invented(self) -> int:
        """How many peers and keys that are none liars can make a node keep in mind, of each kind."""
        return max(STRANGERS_MAX, WANTED_MAX) * len(self.liars)

    def _check_liveness(self) -> None:
        world = self.world
        for (observer, peer), since in self._offline_since.items():
            if observer not in world.nodes or peer not in world.nodes:
                continue
            well_since = max(self._quiet_since(observer), self._quiet_since(peer))
            is_well_all_along = well_since < since and self._bad_weather_at < since
            patience = self._refuted_within() if is_well_all_along else AFTERMATH
            is_long = world.now - max(well_since, since) > patience
            self._require(not is_long, f"{observer} calls {peer} offline since {since:.1f}, and it is well")
        self._check_dead()

    def _check_dead(self) -> None:
        """Who does not run any more is believed in by nobody who is well, after a while of quiet."""
        world = self.world
        down = {node.peer for node in world.members if not node.is_running}
        self._down_since = {peer: self._down_since.get(peer, world.now) for peer in down}
        for node in world:
            quiet_since = max(self._quiet_since(node.peer), self._bad_weather_at)
            for peer, since in self._down_since.items():
                is_believed = node.status(peer) in (Status.ALIVE, Status.SUSPECT)
                is_long = world.now - max(quiet_since, since) > self._noticed_within()
                self._require(not (is_believed and is_long), f"{node.peer} still believes in {peer}")

    def _round(self) -> float:
        """Seconds in which a node asks each of the others once."""
        return len(self.world.members) * self.world.settings.liveness.probe_interval

    def _refuted_within(self) -> float:
        """Seconds until who is well and wrongly called offline is asked, by that very observer: it comes in
        each round, early in one and late in the next."""
        config = self.world.settings.liveness
        return 2 * self._round() + config.direct_timeout + config.indirect_timeout

    def _noticed_within(self) -> float:
        """Seconds until all who are well know of a death: one asks in vain, waits for a refutation, and
        tells; who missed that is told by a summary."""
        config = self.world.settings.liveness
        doublings = math.log2(len(self.world.members) + 1)
        suspicion = max(config.suspicion_min, config.suspicion_per_doubling * doublings)
        return self._refuted_within() + suspicion + 2 * config.summary_interval

    def _is_excused(self, peer: PeerId) -> bool:
        """Whether there was a reason of late to call `peer` offline. To have been paused, or to be new, is
        none: whoever was blames nobody."""
        node = self.world.nodes.get(peer)
        if node is None or node.is_paused or self.liars:
            return True
        return self.world.now - max(self._disturbed_at[peer], self._last_trouble()) <= AFTERMATH

    def _last_trouble(self) -> float:
        return self.world.now if self._is_weather_bad() else max(self._all_disturbed_at, self._bad_weather_at)

    def _look(self, _: None, __: None) -> None:
        if self._is_weather_bad():
            self._bad_weather_at = self.world.now
        for observer, peer in self._blamed:
            # Who said goodbye meanwhile takes leave of all.
            self._require(not observer.is_running, f"{observer.peer} called {peer} offline for no reason")
        self._blamed.clear()
        self.world.timeline.at(self.world.now + _LOOK_INTERVAL, self._look)

    def _is_weather_bad(self) -> bool:
        """Who is deaf or slow blames others, and is believed until they hear of it."""
        faults = self.world.faults
        is_cut = bool(faults.island or faults.cut)
        is_anybody_deaf = any(node.is_deaf for node in self.world)
        return is_cut or bool(faults.slow) or is_anybody_deaf or faults.loss > LOSS_BORNE

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


def measure(node: Node, invented: int = 0) -> dict[str, tuple[int, int]]:
    """What a node keeps in mind besides its ledger: how much there is of it, and how much may be.

    `invented`: peers and keys that are none, of which liars have told.
    """
    world, beliefs, links = node.world, node.detector.beliefs, len(node.pipes)
    members, peers = len(world.members), len(beliefs.peers)
    states = [each.replica.state for each in world]
    entries = max(sum(1 for _ in state.entries()) for state in states)
    owners = max(len(state.owners()) for state in states)
    sessions = [link.session for link in node.spread._links.values()]
    return {
        # One about somebody who was forgotten ends when its answer is due.
        "questions": (len(node.detector._probing._questions), members),
        "relays": (len(node.detector._relays._relays), members * node.detector.config.relays_per_asker_max),
        "rumours": (len(beliefs._urgent._told), peers + 1),
        "idle rumours": (len(beliefs._idle._told), peers + 1),
        "strangers": (len(beliefs._strangers), members + invented),
        "allowances for claims": (len(node.detector._credit._by_peer), members),
        "allowances for news": (len(node.spread._news._by_peer), members),
        "allowances for answers": (len(node.spread._answers._by_peer), members),
        # Each entry as news and as an answer, each owner as one to list and as one that differs.
        "debts": (node.spread.debts, links * (2 * (entries + owners) + _BUCKETS_OWED) + 3 * invented),
        "differences": (sum(len(each._fruitless) for each in sessions), links * owners + 2 * invented),
        "known peers": (len(node.book._peers), members),
    }


def is_shared(entry: Entry) -> bool:
    """Whether `entry` is the swarm's."""
    return entry.owner != entry.writer
