"""Address book: who we know, where they may be found, and whom to dial next.

    bootstrap (token) --+
    nearby (mDNS) ------+--> places, each with its own back-off --> next_dials(now)
    kept (last run) ----+
    learned (peers) ----+

A place is dialled for ever, ever more slowly while it fails: a machine that was
away for a month is found within a minute of its return. One dial per peer at a
time; its nearest place that failed least goes first. Being admitted starts a
peer's back-off anew, and news of it shortens the wait; a connection that came to
nothing is a failure. Only hearsay that never came true is dropped.

Pure: the time and the dice come as arguments; it dials nothing itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from random import Random

from p2p.peer import PeerAddress, PeerId


class Origin(IntEnum):
    """Who told us of a place. When the book is full, the smaller goes first."""

    LEARNED = 1
    """Another peer."""
    KEPT = 2
    """Our own last run."""
    NEARBY = 3
    """The peer itself, on this LAN."""
    BOOTSTRAP = 4
    """The token. Never forgotten: it is the way back when all else is gone."""


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
    dials_max: int = 16
    """At once. A refused dial takes milliseconds; one into the void its whole timeout."""
    peers_max: int = 1024
    """Ten times what one home has."""
    hearsay_failures_max: int = 10
    """Tries, over four minutes, at a place that only another peer spoke of and nobody was met at. A peer
    that invents addresses keeps us busy no longer; a true one is told again when its peer is met."""
    places_per_peer_max: int = 8
    """LAN, VPN and IPv6 of a machine on two networks, and one that it has moved from."""

    def __post_init__(self) -> None:
        assert 0 < self.backoff_first <= self.backoff_max
        assert self.dials_max > 0


@dataclass(slots=True)
class _Place:
    multiaddr: str
    origin: Origin
    distance: int
    due_at: float
    failures: int = 0


@dataclass(slots=True)
class _KnownPeer:
    places: dict[str, _Place] = field(default_factory=dict)
    is_admitted: bool = False
    met_at: float = -inf
    """When it was last a member; its addresses are worth keeping then."""
    not_before: float = -inf
    """It is left alone until then, whatever is heard of it."""

    @property
    def is_hearsay(self) -> bool:
        """Nobody was ever met there, and anybody on the LAN, or any one peer, may have made it up."""
        return self.met_at == -inf and all(
            place.origin in (Origin.LEARNED, Origin.NEARBY) for place in self.places.values()
        )

    @property
    def is_bootstrap(self) -> bool:
        return any(place.origin is Origin.BOOTSTRAP for place in self.places.values())

    def due_at(self, place: _Place) -> float:
        return max(place.due_at, self.not_before)


@dataclass(slots=True)
class AddressBook:
    """Where peers are, and when to dial them."""

    me: PeerId
    config: AddressBookConfig
    rng: Random
    _peers: dict[PeerId, _KnownPeer] = field(default_factory=dict)
    _connected: set[PeerId] = field(default_factory=set)
    _dialling: set[PeerId] = field(default_factory=set)

    def add(self, addresses: Iterable[PeerAddress], origin: Origin, now: float) -> None:
        """Remember `addresses`, and try them soon: somebody has just said that they are good."""
        for address in addresses:
            if address.peer == self.me:
                continue
            known = self._peers.get(address.peer)
            if known is None:
                if not self._make_room():
                    continue
                known = self._peers[address.peer] = _KnownPeer()
            self._add_place(known, address, origin, now)

    def connected(self, peer: PeerId) -> None:
        """There is a connection to `peer`: no dials until it ends."""
        self._connected.add(peer)

    def admitted(self, peer: PeerId, now: float) -> None:
        """`peer`, which is connected, proved to be a member: its failures are forgiven."""
        if known := self._peers.get(peer):
            known.is_admitted = True
            known.met_at = now
            known.not_before = -inf
            for place in known.places.values():
                place.failures = 0

    def disconnected(self, peer: PeerId, now: float) -> None:
        """The connection to `peer` has ended: look for it soon, if it was more than a connection."""
        self._connected.discard(peer)
        if known := self._peers.get(peer):
            known.met_at = now if known.is_admitted else known.met_at
            for place in known.places.values():
                place.failures += 0 if known.is_admitted else 1
                place.due_at = now + self._backoff(place.failures) + self._turn(peer)
            known.is_admitted = False

    def dial_ended(self, address: PeerAddress, is_connected: bool, now: float) -> None:
        """The dial that `next_dials` asked for is over."""
        self._dialling.discard(address.peer)
        known = self._peers.get(address.peer)
        place = known.places.get(address.multiaddr) if known else None
        if known is None or place is None:
            return
        if not is_connected:  # What a connection was worth shows when it is admitted, or ends.
            place.failures += 1
        place.due_at = now + self._backoff(place.failures)
        is_hearsay = place.origin is Origin.LEARNED and known.met_at == -inf
        if is_hearsay and place.failures >= self.config.hearsay_failures_max:
            del known.places[address.multiaddr]
            if not known.places:
                del self._peers[address.peer]

    def put_off(self, peer: PeerId, delay: float, now: float) -> None:
        """Leave `peer` alone for about `delay` seconds: it, or we, said no."""
        if known := self._peers.get(peer):
            known.not_before = now + self._jittered(delay)

    def forget(self, peer: PeerId) -> None:
        """`peer` gave its place in the swarm up. (A bootstrap address stays: it may come back.)"""
        if (known := self._peers.get(peer)) and not known.is_bootstrap:
            del self._peers[peer]

    def next_dials(self, now: float) -> list[PeerAddress]:
        """Places to dial now, the longest due first and hearsay last; each is taken until `dial_ended`."""
        due: list[tuple[bool, float, PeerId, str]] = []
        for peer, known in self._idle_peers():
            places = [place for place in known.places.values() if known.due_at(place) <= now]
            if places:
                best = min(places, key=_order)
                due.append((known.is_hearsay, known.due_at(best), peer, best.multiaddr))
        free = self.config.dials_max - len(self._dialling)
        dials = [PeerAddress(peer, multiaddr) for _, _, peer, multiaddr in sorted(due)[:free]]
        self._dialling.update(address.peer for address in dials)
        return dials

    def next_wake(self) -> float:
        """When `next_dials` will have something new to say, if nothing happens until then."""
        if len(self._dialling) >= self.config.dials_max:
            return inf  # The end of a dial comes first.
        return min(
            (known.due_at(place) for _, known in self._idle_peers() for place in known.places.values()),
            default=inf,
        )

    def addresses(self) -> list[PeerAddress]:
        """Where peers we have met can be found, for the next run: last met first, near before far."""
        met = [
            (-known.met_at, peer, place.distance, place.multiaddr)
            for peer, known in self._peers.items()
            for place in known.places.values()
            if known.met_at > -inf or place.origin is Origin.KEPT
        ]
        return [PeerAddress(peer, multiaddr) for _, peer, _, multiaddr in sorted(met)]

    def _add_place(self, known: _KnownPeer, address: PeerAddress, origin: Origin, now: float) -> None:
        place = known.places.get(address.multiaddr)
        if place is not None:
            place.origin = max(place.origin, origin)
            if place.failures > 1:
                place.failures = 1
                place.due_at = min(place.due_at, now + self._backoff(1))
            return
        # A joiner's first dial is what its person waits for, and nobody can be dialling it already.
        delay = 0.0 if origin is Origin.BOOTSTRAP else self._turn(address.peer)
        known.places[address.multiaddr] = _Place(
            address.multiaddr, origin, distance_of(address.multiaddr), now + delay
        )
        if len(known.places) > self.config.places_per_peer_max:
            # Of equals the newest goes: inventing places does not push true ones out.
            del known.places[max(reversed(known.places.values()), key=_uselessness).multiaddr]

    def _idle_peers(self) -> Iterator[tuple[PeerId, _KnownPeer]]:
        for peer, known in self._peers.items():
            if peer not in self._connected and peer not in self._dialling:
                yield peer, known

    def _make_room(self) -> bool:
        """Room for one more peer: the one that matters least goes, or there is none."""
        if len(self._peers) < self.config.peers_max:
            return True
        idle = [
            (not known.is_hearsay, known.met_at, peer)
            for peer, known in self._idle_peers()
            if not known.is_bootstrap
        ]
        if not idle:
            return False
        _, _, peer = min(idle)
        del self._peers[peer]
        return True

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


def distance_of(multiaddr: str) -> int:
    """0 on a LAN, 1 elsewhere, 2 on this machine itself.

    Loopback goes last: told by a peer, it is that peer's own machine as a rule, not ours.
    """
    host = multiaddr.split("/")[2] if multiaddr.count("/") >= 2 else ""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return 1
    if ip.is_loopback:
        return 2
    return 0 if ip.is_private else 1


def _order(place: _Place) -> tuple[int, int, str]:
    return (place.failures, place.distance, place.multiaddr)


def _uselessness(place: _Place) -> tuple[int, int, int]:
    return (-place.origin, place.failures, place.distance)
