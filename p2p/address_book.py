"""Address book: who we know, where they may be found, and whom to dial next.

    bootstrap (token) --+
    nearby (mDNS) ------+--> places, each with its own back-off --> next_dials(now, wanted)
    kept (last run) ----+                                       --> feeler(now)
    learned (peers) ----+

A place may be dialled for ever, ever more slowly while it fails: a machine that was
away for a month is found within a minute of its return. One dial per peer at a
time; its nearest place that failed least goes first. Being admitted starts a
peer's back-off anew, and news of it shortens the wait; a connection that came to
nothing is a failure. Only hearsay that never came true is dropped.

No event costs more because thousands are known, unless somebody is to be chosen among them.
Pure: the time and the dice come as arguments; it dials nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p.due_queue import DueQueue
from p2p.known_peer import KnownPeer, Origin, Place, distance_of
from p2p.peer import PeerAddress, PeerId


@dataclass(frozen=True, slots=True)
class AddressBookConfig:
    """Seconds and counts of an address book."""

    backoff_first: float = 0.5
    """A node that restarts is listening again after about this."""
    backoff_max: float = 60.0
    """A peer is found within a minute of its return; a dial a minute costs nothing."""
    turn_delay: float = 0.5
    """How much longer the larger peer id waits. Two that hear of each other at the same moment would
    otherwise dial at the same moment, and one of the two connections would have to go."""
    dials_max: int = 20
    """At once. A refused dial takes milliseconds; one into the void its whole timeout."""
    dials_reserved: int = 4
    """Of those, for peers that somebody waits for: the rest may all be dialling into the void."""
    peers_max: int = 4096
    """The largest swarm: as many as its ledger has owners."""
    hearsay_failures_max: int = 10
    """Tries, over four minutes, at a place that only another peer spoke of and nobody was met at. A peer
    that invents addresses keeps us busy no longer; a true one is told again when its peer is met."""
    places_per_peer_max: int = 8
    """LAN, VPN and IPv6 of a machine on two networks, and one that it has moved from."""

    def __post_init__(self) -> None:
        assert 0 < self.backoff_first <= self.backoff_max
        assert 0 <= self.dials_reserved < self.dials_max


@dataclass(slots=True)
class AddressBook:
    """Where peers are, and when to dial them."""

    me: PeerId
    config: AddressBookConfig
    rng: Random
    _peers: dict[PeerId, KnownPeer] = field(default_factory=dict)
    _connected: set[PeerId] = field(default_factory=set)
    _dialling: set[PeerId] = field(default_factory=set)
    _queue: DueQueue = field(default_factory=DueQueue)
    """Those with neither a connection nor a dial."""
    _sought: dict[PeerId, set[str]] = field(default_factory=dict)
    """Those to be dialled at once, at each of these places if need be."""
    _strangers: set[PeerId] = field(default_factory=set)
    _hearsay: dict[PeerId, None] = field(default_factory=dict)
    """Those of it that may go, the oldest first."""

    @property
    def dialling(self) -> Collection[PeerId]:
        """Who is being dialled."""
        return self._dialling

    @property
    def stranger_count(self) -> int:
        """How many are known that are no members now, and not thought gone."""
        return len(self._strangers)

    def add(self, addresses: Iterable[PeerAddress], origin: Origin, now: float) -> None:
        """Remember `addresses`, and try them soon: somebody has just said that they are good."""
        for address in addresses:
            if address.peer == self.me:
                continue
            known = self._peers.get(address.peer)
            if known is None:
                if not self._make_room():
                    continue
                known = self._peers[address.peer] = KnownPeer()
            if self._add_place(known, address, origin, now):
                self._file(address.peer)

    def seek(self, peer: PeerId) -> None:
        """Dial `peer` at the next occasion, at one place after the other: somebody waits for it."""
        if known := self._peers.get(peer):
            self._sought[peer] = set(known.places)

    def is_sought(self, peer: PeerId) -> bool:
        """Whether `peer` is being dialled, or will be at once."""
        return bool(self._sought.get(peer)) or peer in self._dialling

    def connected(self, peer: PeerId) -> None:
        """There is a connection to `peer`: no dials until it ends."""
        self._connected.add(peer)
        self._sought.pop(peer, None)
        self._file(peer)

    def admitted(self, peer: PeerId, now: float) -> None:
        """`peer`, which is connected, proved to be a member: its failures are forgiven."""
        self._sought.pop(peer, None)
        if known := self._peers.get(peer):
            known.is_admitted = True
            known.met_at = now
            known.not_before = -inf
            for place in known.places.values():
                place.failures = 0
            self._file(peer)

    def disconnected(self, peer: PeerId, now: float) -> None:
        """The connection to `peer` has ended: look for it soon, if it was more than a connection."""
        self._connected.discard(peer)
        if known := self._peers.get(peer):
            known.met_at = now if known.is_admitted else known.met_at
            for place in known.places.values():
                place.failures += 0 if known.is_admitted else 1
                place.due_at = now + self._backoff(place.failures) + self._turn(peer)
            known.is_admitted = False
            self._file(peer)

    def dial_ended(self, address: PeerAddress, is_connected: bool, now: float) -> None:
        """The dial that `next_dials` or `feeler` asked for is over."""
        self._dialling.discard(address.peer)
        known = self._peers.get(address.peer)
        place = known.places.get(address.multiaddr) if known else None
        if known is not None and place is not None:
            if not is_connected:  # What a connection was worth shows when it is admitted, or ends.
                place.failures += 1
            place.due_at = now + self._backoff(place.failures)
            is_hearsay = place.origin is Origin.LEARNED and known.met_at == -inf
            if is_hearsay and place.failures >= self.config.hearsay_failures_max:
                del known.places[address.multiaddr]
        if known is not None and not known.places:
            del self._peers[address.peer]
        self._file(address.peer)

    def put_off(self, peer: PeerId, delay: float, now: float) -> None:
        """Leave `peer` alone for about `delay` seconds: it, or we, said no."""
        if known := self._peers.get(peer):
            known.not_before = now + self._jittered(delay)
            self._file(peer)

    def forget(self, peer: PeerId) -> None:
        """`peer` gave its place in the swarm up. (A bootstrap address stays: it may come back.)"""
        if (known := self._peers.get(peer)) and not known.is_bootstrap:
            del self._peers[peer]
            self._file(peer)

    def next_dials(self, now: float, wanted: int | None = None) -> list[PeerAddress]:
        """Places to dial now: of everybody sought, and of up to `wanted` others that are due.

        The others are chosen by chance, who is thought gone last, and before that hearsay. Each
        place is taken until `dial_ended`.
        """
        free = self.config.dials_max - len(self._dialling)
        sought = [peer for peer in self._sought if self._is_idle(peer)][: max(0, free)]
        dials = [self._dial(peer, [place]) for peer in sought if (place := self._next_sought(peer))]
        due = self._queue.due(now)
        free -= len(dials) + self.config.dials_reserved
        count = free if wanted is None else min(free, wanted)
        if due and count > 0:
            for peer in self._by_chance(due, count):
                places = self._peers[peer].places.values()
                dials.append(self._dial(peer, [place for place in places if place.due_at <= now]))
        return dials

    def feeler(self, now: float) -> list[PeerAddress]:
        """A place of any one peer, by chance, due or not. Nothing if nobody is known, or no dial is free."""
        if len(self._dialling) >= self.config.dials_max:
            return []
        idle = [
            peer for peer, known in self._peers.items() if self._is_idle(peer) and known.not_before <= now
        ]
        if not idle:
            return []
        peer = self.rng.choice(idle)
        return [self._dial(peer, self._peers[peer].places.values())]

    def next_wake(self) -> float:
        """When `next_dials` will have something new to say, if nothing happens until then."""
        if len(self._dialling) + self.config.dials_reserved >= self.config.dials_max:
            return inf  # The end of a dial comes first.
        return self._queue.wake_at

    def addresses(self) -> list[PeerAddress]:
        """Where peers we have met can be found, for the next run: last met first, near before far."""
        met = [
            (-known.met_at, peer, place.distance, place.multiaddr)
            for peer, known in self._peers.items()
            for place in known.places.values()
            if known.met_at > -inf or place.origin is Origin.KEPT
        ]
        return [PeerAddress(peer, multiaddr) for _, peer, _, multiaddr in sorted(met)]

    def _add_place(self, known: KnownPeer, address: PeerAddress, origin: Origin, now: float) -> bool:
        """Whether that changed anything."""
        multiaddr = address.multiaddr
        place = known.places.get(multiaddr)
        if place is not None:
            if place.origin >= origin and place.failures <= 1:
                return False
            place.origin = max(place.origin, origin)
            if place.failures > 1:
                place.failures = 1
                place.due_at = min(place.due_at, now + self._backoff(1))
            return True
        # A joiner's first dial is what its person waits for, and nobody can be dialling it already.
        delay = 0.0 if origin is Origin.BOOTSTRAP else self._turn(address.peer)
        known.places[multiaddr] = Place(multiaddr, origin, distance_of(multiaddr), now + delay)
        if origin is Origin.BOOTSTRAP:
            self._sought.setdefault(address.peer, set()).add(multiaddr)
        if len(known.places) > self.config.places_per_peer_max:
            # Of equals the newest goes: inventing places does not push true ones out.
            del known.places[max(reversed(known.places.values()), key=_uselessness).multiaddr]
        return True

    def _file(self, peer: PeerId) -> None:
        """Bring what is queued and counted in step with what is known of `peer`."""
        known = self._peers.get(peer)
        is_idle = known is not None and self._is_idle(peer)
        if known is not None and is_idle:
            self._queue.put(peer, known.due_at)
        else:
            self._queue.take_out(peer)
        if known is not None and is_idle and known.is_hearsay:
            self._hearsay.setdefault(peer)
        else:
            self._hearsay.pop(peer, None)
        if known is None or known.is_admitted or known.is_silent:
            self._strangers.discard(peer)
        else:
            self._strangers.add(peer)

    def _is_idle(self, peer: PeerId) -> bool:
        return peer not in self._connected and peer not in self._dialling

    def _make_room(self) -> bool:
        """Room for one more peer: the oldest hearsay goes, or who is thought gone for longest, or none."""
        if len(self._peers) < self.config.peers_max:
            return True
        goes = next(iter(self._hearsay), None)
        if goes is None:
            gone = [
                (known.met_at, peer)
                for peer, known in self._peers.items()
                if known.is_silent and not known.is_bootstrap and self._is_idle(peer)
            ]
            goes = min(gone)[1] if gone else None
        if goes is None:
            return False
        del self._peers[goes]
        self._file(goes)
        return True

    def _next_sought(self, peer: PeerId) -> Place | None:
        """The place to try next for whoever waits for `peer`. None: all were tried."""
        known, left = self._peers.get(peer), self._sought.pop(peer)
        places = [known.places[each] for each in left if each in known.places] if known else []
        if not places:
            return None
        place = min(places, key=_order)
        self._sought[peer] = left - {place.multiaddr}
        return place

    def _by_chance(self, due: Collection[PeerId], count: int) -> list[PeerId]:
        ranks: dict[tuple[bool, bool], list[PeerId]] = {}
        for peer in due:
            ranks.setdefault((peer not in self._strangers, peer in self._hearsay), []).append(peer)
        chosen: list[PeerId] = []
        for rank in sorted(ranks):
            chosen += self.rng.sample(ranks[rank], min(len(ranks[rank]), count - len(chosen)))
        return chosen

    def _dial(self, peer: PeerId, places: Iterable[Place]) -> PeerAddress:
        """The best of `places`, taken."""
        self._dialling.add(peer)
        self._file(peer)
        return PeerAddress(peer, min(places, key=_order).multiaddr)

    def _turn(self, peer: PeerId) -> float:
        return self.config.turn_delay if self.me > peer else 0.0

    def _backoff(self, failures: int) -> float:
        # The exponent is bounded because a float overflows after years of failures.
        doublings = max(0, min(failures - 1, 32))
        return self._jittered(min(self.config.backoff_max, self.config.backoff_first * 2.0**doublings))

    def _jittered(self, delay: float) -> float:
        """Between half of `delay` and all of it: the machines of a home come back from a power cut
        at the same moment, and need not dial at the same moments ever after."""
        return delay * self.rng.uniform(0.5, 1.0)


def _order(place: Place) -> tuple[int, int, str]:
    return (place.failures, place.distance, place.multiaddr)


def _uselessness(place: Place) -> tuple[int, int, int]:
    return (-place.origin, place.failures, place.distance)
