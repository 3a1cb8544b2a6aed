"""A simulated node: the cores of a real one, and the wires between them.

    failure detector <--> probes      which peers live
    replica, spread  <--> ledger      what everybody says
    finder (address book, neighbours) whom to dial, whom to let go

Decides nothing. Its shells in the program (`prober.py`, `replicate.py`, `swarm.py`)
do the same wiring between tasks and streams.

One core is imitated: `p2p/admission.py`. Most of it decides about streams and signatures, of which there
are none here; whole nodes (`whole_swarm.py`) run it. Here a connection is to a member from its first
moment, and everybody is let in. So there are no control streams and no hellos with their checks and
deadlines, no dials that cross, no bound on strangers or members, no copied homes, and no requests that
keep a connection or wait for one. What it does about addresses, news, goodbyes and who is too many is
done as there, with its own book, neighbours, finder and configuration; its tests are in `tests/p2p`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from ledger import liveness_events as liveness
from ledger import spread as spreading
from ledger.entry import Author, Place
from ledger.failure_detector import FailureDetector
from ledger.floor import is_floor
from ledger.liveness_config import LivenessConfig
from ledger.probe import Message as ProbeMessage
from ledger.record_fields import encode_value
from ledger.records import LEAVE_KEY, NODE_KEY, LeaveRecord, NodeRecord, encode_record
from ledger.replica import BOOT_KEY, Change, Replica
from ledger.rumour import Status
from ledger.spread import Spread, SpreadConfig
from ledger.state import LedgerLimits
from ledger.sync_messages import Message as LedgerMessage
from p2p import hello
from p2p.address_book import AddressBook, AddressBookConfig
from p2p.admission_config import AdmissionConfig
from p2p.finder import Finder
from p2p.known_peer import Origin
from p2p.neighbours import Neighbours, NeighboursConfig
from p2p.peer import PeerAddress, PeerId
from tests.sim.frame_sizes import address_of
from tests.sim.timeline import tick
from tests.sim.wire import Pipe

if TYPE_CHECKING:
    from tests.sim.people import SharedProofs
    from tests.sim.world import World

DETECTOR, SPREAD, DOOR = range(3)
"""The cores that have a timer."""

_DOOR_CONFIG = AdmissionConfig()
_LOOK_INTERVAL_MIN = 0.001
"""Seconds: a core that is due and does nothing must not stop the time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all nodes of a simulation have in common."""

    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)
    liveness: LivenessConfig = field(default_factory=LivenessConfig)
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    limits: LedgerLimits = field(default_factory=LedgerLimits)
    has_ledger: bool = True
    """Without it only the failure detector runs: of who lives, the ledger says nothing."""


class Node:
    """One process of member `number`, from its start to its end."""

    def __init__(self, world: World, number: int, author: Author, proofs: SharedProofs, boot: int) -> None:
        self.world = world
        self.number = number
        self.author = author
        self.peer: PeerId = author.peer
        self.address = PeerAddress(self.peer, address_of(number))
        settings = world.settings
        rng = Random(world.rng.random())
        self.detector = FailureDetector(self.peer, Random(rng.random()), settings.liveness)
        self.replica = Replica(author, proofs, f"boot {number}.{boot}", settings.limits)
        self.spread = Spread(self.replica, self.is_doubtful, Random(rng.random()), settings.spread)
        self.neighbours = Neighbours(Random(rng.random()), settings.neighbours)
        self.book = AddressBook(self.peer, AddressBookConfig(), Random(rng.random()))
        self.finder = Finder(self.book, self.neighbours)
        self.rng = rng
        self.known: set[PeerId] = set()
        """Who has a place in the swarm, by the ledger."""
        self.pipes: dict[PeerId, Pipe] = {}
        """Our side of each connection."""
        self.news_at = -math.inf
        """When to tell somebody where the others are."""
        self.ahead = tick(world.clock_ahead(number))
        """Our monotonic clock minus the simulation's: each machine counts from its own start."""
        self.is_newer = False
        """It runs a later version of the program."""
        self.has_left = False
        """It gave its place up, and will not come back."""
        self.is_running = True
        self.is_paused = False
        self.is_deaf = False
        """It reads nothing, but does all else."""
        self.sent_probes = self.sent_ledger = self.sent_control = 0
        """Bytes written to streams."""
        self.received = 0
        self.timers = [math.inf, math.inf, math.inf]
        """When the next look at each core is in the heap: detector, spread, door."""

    @property
    def now(self) -> float:
        """By our own clock."""
        return self.world.now + self.ahead

    @property
    def sent(self) -> int:
        return self.sent_probes + self.sent_ledger + self.sent_control

    def is_doubtful(self, peer: PeerId) -> bool:
        health = self.detector.beliefs.peers.get(peer)
        return health is not None and health.status in (Status.SUSPECT, Status.OFFLINE)

    def status(self, peer: PeerId) -> Status:
        health = self.detector.beliefs.peers.get(peer)
        return health.status if health is not None else Status.UNKNOWN

    # Life.

    def begin(self) -> None:
        """Say who we are, and look for the others. `replica.restore` and `book.add` come before."""
        for peer in self.replica.state.owners():
            self._note_addresses(peer)
        self.replica.begin()
        self.put_record()
        self.note_changes()
        self.detect(liveness.PeersKnown(frozenset(self.known)))
        self.tell_spread(spreading.TimerFired())
        self.attend_door()

    def put_record(self) -> None:
        extra = {"from_the_future": ["?"]} if self.is_newer else {}
        addresses = (self.address.multiaddr,)
        record = NodeRecord(f"node{self.number:04}", "worker", "1.0", addresses=addresses, extra=extra)
        self.replica.put(NODE_KEY, encode_value(encode_record(record)))

    def say_left(self) -> None:
        """Say that we gave our place up, and nothing else any more; and push that to everybody."""
        self.has_left = True
        left = LeaveRecord(f"node{self.number:04}")
        self.replica.retire(LEAVE_KEY, encode_value(encode_record(left)))
        self.follow_own_writes()
        self.tell_spread(spreading.LastWordSaid(LEAVE_KEY))

    def write(self, key: str, value: bytes | None) -> None:
        """Say that our `key` has `value`; None deletes it."""
        if self.world.witness is not None:
            self.world.witness.said(self, key, value)
        if value is None:
            self.replica.delete(key)
        else:
            self.replica.put(key, value)
        self.follow_own_writes()

    def write_shared(self, key: str, value: bytes | None) -> None:
        self.replica.put_shared(key, value)
        self.follow_own_writes()

    def follow_own_writes(self) -> None:
        for change in self.note_changes():
            if change.source is None and change.is_in:
                self.tell_spread(spreading.Wrote(change.entry.place))

    # The failure detector.

    def detect(self, event: liveness.Event) -> None:
        detector = self.detector
        for effect in detector.handle(event, self.now):
            if isinstance(effect, liveness.SendMessage):
                pipe = self.pipes.get(effect.peer)
                if pipe is not None and pipe.is_linked:
                    self.world.network.send_probe(pipe, effect.message)
            else:
                self.world.status_changed(self, effect.peer, effect.status)
        self.set_timer(DETECTOR, detector.wake_at)

    def hear_probe(self, peer: PeerId, message: ProbeMessage) -> None:
        self.detect(liveness.MessageReceived(peer, message))

    # The ledger.

    def tell_spread(self, event: spreading.Event) -> None:
        if not self.world.settings.has_ledger:
            return
        for effect in self.spread.handle(event, self.now):
            match effect:
                case spreading.SendDue(peer):
                    if (pipe := self.pipes.get(peer)) is not None:
                        self.world.network.send_ledger(pipe)
                case spreading.CutOff(peer, why):
                    self.world.network.cut_off(self, peer, why)
        self.set_timer(SPREAD, self.spread.wake_at)

    def hear_ledger(self, peer: PeerId, message: LedgerMessage) -> None:
        self.tell_spread(spreading.MessageReceived(peer, message))
        self.note_changes()

    def note_changes(self) -> list[Change]:
        changes = self.replica.take_changes()
        if not changes:
            return changes
        is_membership_new = are_addresses_new = False
        for change in changes:
            self.world.ledger_changed(self, change)
            owner, key = change.entry.owner, change.entry.key
            if key in (NODE_KEY, LEAVE_KEY):
                is_membership_new |= self._note_membership(owner)
            if key == NODE_KEY:
                are_addresses_new |= self._note_addresses(owner)
        if is_membership_new:
            self.detect(liveness.PeersKnown(frozenset(self.known)))
        if are_addresses_new:
            self.attend_door()
        return changes

    def has_place(self, peer: PeerId) -> bool:
        """Whether `peer` is in the swarm, as our ledger has it."""
        record, leave = (self.replica.state.get(peer, key) for key in (NODE_KEY, LEAVE_KEY))
        return record is not None and not record.deleted and (leave is None or leave.deleted)

    def holds_record(self, peer: PeerId) -> bool:
        return self.replica.state.get(peer, NODE_KEY) is not None

    def holds(self, place: Place) -> bytes | None:
        """What stands at `place`, if anything does."""
        entry = self.replica.state.get(*place)
        return None if entry is None or entry.deleted else entry.value

    def own_keys(self) -> set[str]:
        """What it says besides what every process says of itself."""
        entries = self.replica.state.entries_of(self.peer)
        return {each.key for each in entries if each.key not in (BOOT_KEY, NODE_KEY) and not is_floor(each)}

    def _note_membership(self, peer: PeerId) -> bool:
        if self.has_place(peer) == (peer in self.known):
            return False
        self.known ^= {peer}
        if peer not in self.known:
            self.book.forget(peer)
        return True

    def _note_addresses(self, peer: PeerId) -> bool:
        """Look where `peer` says it is."""
        record = self.replica.state.get(peer, NODE_KEY)
        if record is None or peer == self.peer or not self.has_place(peer):
            return False
        found = self.world.addresses_in(record)
        self.book.add(found, Origin.SIGNED, self.now)
        return bool(found)

    # The door.

    def attend_door(self) -> None:
        """Let go whoever is too much, and dial whoever is wanted."""
        now = self.now
        for peer in self.neighbours.let_go((), now):
            self.world.network.close(self, peer, hello.ENOUGH)
        for dial in self.finder.next_dials(0, now):
            self.world.network.dial(self, dial.address)
        if self.pipes and self.news_at <= now:
            self.news_at = now + _DOOR_CONFIG.news_interval
            self.tell_of_others(self.rng.choice(sorted(self.pipes)))
        news_at = self.news_at if self.pipes else math.inf
        wake_at = min(self.finder.next_wake(0), news_at)
        self.set_timer(DOOR, max(wake_at, now + _LOOK_INTERVAL_MIN))

    def admit(self, pipe: Pipe) -> None:
        """There is a connection to a member."""
        peer = pipe.target.peer
        self.pipes[peer] = pipe
        self.book.connected(peer)
        self.book.add([pipe.target.address], Origin.LEARNED, self.now)
        self.book.admitted(peer, self.now)
        self.neighbours.came(peer, self.now, is_chosen=pipe is pipe.connection.forth)
        self.tell_of_others(peer)
        self.attend_door()

    def open_streams(self, pipe: Pipe) -> None:
        peer = pipe.target.peer
        if self.pipes.get(peer) is pipe:
            pipe.is_linked = True
            self.detect(liveness.LinkOpened(peer))
            self.tell_spread(spreading.LinkOpened(peer))

    def lose(self, pipe: Pipe, word: str | None, *, is_ours: bool = False) -> None:
        """The connection is gone: with this word of goodbye, which may be ours, or without one."""
        peer = pipe.target.peer
        if self.pipes.get(peer) is not pipe:
            return
        del self.pipes[peer]
        self.neighbours.went(peer)
        if word is None:
            self.detect(liveness.FailureReported(peer))
        elif word in hello.GOING and not is_ours:
            self.detect(liveness.ByeSaid(peer))
        self.detect(liveness.LinkLost(peer))
        self.tell_spread(spreading.LinkLost(peer))
        if word == hello.LEAVE and not is_ours:
            self.book.forget(peer)
        if word is not None:
            self.book.put_off(peer, _DOOR_CONFIG.pause_after(word), self.now)
        self.book.disconnected(peer, self.now)
        self.attend_door()

    def tell_of_others(self, peer: PeerId) -> None:
        others = [pipe.target.address for other, pipe in sorted(self.pipes.items()) if other != peer]
        self.world.network.send_addresses(self.pipes[peer], others)

    def hear_addresses(self, addresses: list[PeerAddress]) -> None:
        self.book.add(addresses, Origin.LEARNED, self.now)
        self.attend_door()

    # Time.

    def set_timer(self, core: int, local: float) -> None:
        """Look at `core` then, by our clock. What is in the heap for earlier looks again by itself."""
        at = max(tick(local - self.ahead), self.world.now)
        if at < self.timers[core]:
            self.timers[core] = at
            self.world.wake(self, core, at)

    def on_timer(self, core: int) -> None:
        """It is as late as it was set for, or later. An event in between may have moved it."""
        self.timers[core] = math.inf
        if core == DETECTOR:
            if self.detector.wake_at <= self.now:
                self.detect(liveness.TimerFired())
            else:
                self.set_timer(core, self.detector.wake_at)
        elif core == SPREAD:
            if self.spread.wake_at <= self.now:
                self.tell_spread(spreading.TimerFired())
            else:
                self.set_timer(core, self.spread.wake_at)
        else:
            self.attend_door()
