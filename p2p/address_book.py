"""Address book: who we know, where they may be found, and whom to dial next.

    bootstrap (token) --+
    kept (last run) ----+
    signed (ledger) ----+--> places, each with its own back-off --> next_dials(now, wanted)
    nearby (mDNS) ------+                                       --> feeler(now)
    learned (peers) ----+

A place may be dialled for ever, ever more slowly while it fails: a machine that was
away for a month is found within a minute of its return. Its place that failed least goes
first, of equals the one that worked last. Who was a member for a while is forgiven what
failed before; a connection that came to nothing, or to little, is a failure.

Hearsay is what anybody may have made up: peers that nobody was met at, and that only other peers or
the LAN spoke of. There is a bound to how many of them are known, how fast they are dialled and
how many at once, and they are forgotten; so nobody who is known better waits for them.

No event costs more because thousands are known or due, but a feeler, which is rare.
Pure: the time and the dice come as arguments; it dials nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p.address_book_config import AddressBookConfig
from p2p.due_queue import DueQueue
from p2p.hearsay import Hearsay
from p2p.known_peer import KnownPeer, Origin, Place, Rank, distance_of
from p2p.peer import PeerAddress, PeerId

__all__ = ["AddressBook", "AddressBookConfig"]


@dataclass(slots=True)
class AddressBook:
    """Where peers are, and when to dial them."""

    me: PeerId
    config: AddressBookConfig
    rng: Random
    _peers: dict[PeerId, KnownPeer] = field(default_factory=dict)
    _connected: set[PeerId] = field(default_factory=set)
    _dialling: set[PeerId] = field(default_factory=set)
    _sound: DueQueue = field(default_factory=DueQueue)
    """Those that were met or vouched for, with neither a connection nor a dial."""
    _silent: DueQueue = field(default_factory=DueQueue)
    """Those of them that are thought gone."""
    _hearsay: Hearsay = field(init=False)
    """All others."""
    _sought: dict[PeerId, list[str]] = field(default_factory=dict)
    """Those to be dialled at once, at each of these places if need be."""
    _strangers: set[PeerId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._hearsay = Hearsay(self.config)

    @property
    def dialling(self) -> Collection[PeerId]:
        """Who is being dialled."""
        return self._dialling

    @property
    def stranger_count(self) -> int:
        """How many are known that are no members now, and not thought gone. Hearsay does not count: whoever
        invents peers would make a small swarm look large."""
        return len(self._strangers)

    def add(self, addresses: Iterable[PeerAddress], origin: Origin, now: float) -> None:
        """Remember `addresses`, and try them soon: somebody has just said that they are good."""
        for address in addresses:
            if address.peer == self.me:
                continue
            known = self._peers.get(address.peer)
            if known is None:
                if not self._make_room(origin):
                    continue
                known = self._peers[address.peer] = KnownPeer(heard_at=now)
            if self._add_place(known, address, origin, now):
                self._file(address.peer)

    def seek(self, peer: PeerId) -> None:
        """Dial `peer` at the next occasion, at one place after the other: somebody waits for it.
        Nothing happens if it is a member."""
        known = self._peers.get(peer)
        if known is not None and not known.is_admitted:
            self._sought[peer] = [place.multiaddr for place in sorted(known.places.values(), key=Place.order)]

    def give_up(self, peer: PeerId) -> None:
        """Nobody waits for `peer` any more: what was not tried yet is not hurried."""
        self._sought.pop(peer, None)

    def is_sought(self, peer: PeerId) -> bool:
        """Whether `peer` is being dialled, or will be at once."""
        return self.is_more_to_try(peer) or peer in self._dialling

    def is_more_to_try(self, peer: PeerId) -> bool:
        """Whether another dial of `peer`, at another place, follows at once if this one fails."""
        return bool(self._sought.get(peer))

    def connected(self, peer: PeerId) -> None:
        """There is a connection to `peer`: no dials until it ends."""
        self._connected.add(peer)
        self._sought.pop(peer, None)
        self._file(peer)

    def admitted(self, peer: PeerId, now: float) -> None:
        """`peer`, which is connected, proved to be a member."""
        self._sought.pop(peer, None)
        if known := self._peers.get(peer):
            if known.admitted_at is None:
                known.admitted_at = now
            known.met_at = now
            known.not_before = -inf
            known.note_where_it_is(now)
            self._file(peer)

    def disconnected(self, peer: PeerId, now: float) -> None:
        """The connection to `peer` has ended: look for it soon, if it was more than a connection."""
        self._connected.discard(peer)
        known = self._peers.get(peer)
        if known is None:
            return
        if known.admitted_at is None:
            known.failures += 1
            for place in known.places.values():
                place.failures += 1
                place.due_at = now + self._backoff(place.failures) + self._turn(peer)
        else:
            self._lose_member(known, peer, now - known.admitted_at, now)
        known.admitted_at = known.reached_at = None
        self._forget_if_untrue(peer, now)
        self._file(peer)

    def dial_ended(self, address: PeerAddress, is_connected: bool, now: float) -> None:
        """The dial that `next_dials` or `feeler` asked for is over."""
        self._dialling.discard(address.peer)
        self._hearsay.dial_ended(address.peer)
        known = self._peers.get(address.peer)
        if known is not None and is_connected:
            known.reached_at = address.multiaddr
            known.note_where_it_is(now)
        elif known is not None:  # What a connection was worth shows when it is admitted, or ends.
            known.failures += 1
        place = known.places.get(address.multiaddr) if known else None
        if place is not None:
            place.failures += 0 if is_connected else 1
            place.due_at = now + self._backoff(place.failures)
        if not is_connected:
            self._forget_if_untrue(address.peer, now)
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

        The others are chosen by chance: first of those that were met or vouched for, then of those thought
        gone and of hearsay, a coin says which of the two first. Each place is taken until `dial_ended`.
        """
        free = self.config.dials_max - len(self._dialling)
        sought = [peer for peer in self._sought if self._is_idle(peer)][: max(0, free)]
        dials = [self._dial(peer, place) for peer in sought if (place := self._next_sought(peer))]
        free -= len(dials) + self.config.dials_reserved
        count = free if wanted is None else min(free, wanted)
        for peer in self._by_chance(count, now):
            due = [place for place in self._peers[peer].places.values() if place.due_at <= now]
            dials.append(self._dial(peer, min(due, key=Place.order)))
        return dials

    def feeler(self, now: float) -> list[PeerAddress]:
        """A place of any one peer, by chance, due or not; of hearsay only if there is nobody else. Nothing if
        nobody is known, or no dial is free."""
        if len(self._dialling) >= self.config.dials_max:
            return []
        idle = [
            peer for peer, known in self._peers.items() if self._is_idle(peer) and known.not_before <= now
        ]
        idle = [peer for peer in idle if peer not in self._hearsay] or idle
        if not idle:
            return []
        peer = self.rng.choice(idle)
        if peer in self._hearsay and not self._hearsay.allow_one(now):
            return []
        return [self._dial(peer, min(self._peers[peer].places.values(), key=Place.order))]

    def next_wake(self) -> float:
        """When `next_dials` will have something new to say, if nothing happens until then."""
        if len(self._dialling) + self.config.dials_reserved >= self.config.dials_max:
            return inf  # The end of a dial comes first.
        return min(self._sound.wake_at, self._silent.wake_at, self._hearsay.wake_at)

    def addresses(self) -> list[PeerAddress]:
        """Where peers we have met can be found, for the next run: last met first, and of its places
        the one that worked last."""
        met = [
            (-known.met_at, peer, -place.worked_at, place.distance, place.multiaddr)
            for peer, known in self._peers.items()
            for place in known.places.values()
            if known.met_at > -inf or place.origin is Origin.KEPT
        ]
        # By all but the text: of equals the one told first stays first.
        return [PeerAddress(each[1], each[-1]) for each in sorted(met, key=lambda each: each[:-1])]

    def _add_place(self, known: KnownPeer, address: PeerAddress, origin: Origin, now: float) -> bool:
        """Whether that changed anything."""
        multiaddr = address.multiaddr
        place = known.places.get(multiaddr)
        if place is not None:
            if place.origin >= origin and place.failures <= 1:
                return False
            is_believed = place.worked_at > -inf or max(place.origin, origin) > Origin.LEARNED
            place.origin = max(place.origin, origin)
            if not is_believed:
                return False  # To tell it again makes it no truer.
            if place.failures > 1:
                place.failures = 1
                place.due_at = min(place.due_at, now + self._backoff(1))
            return True
        # A joiner's first dial is what its person waits for, and nobody can be dialling it already.
        delay = 0.0 if origin is Origin.BOOTSTRAP else self._turn(address.peer)
        known.places[multiaddr] = Place(multiaddr, origin, distance_of(multiaddr), now + delay)
        if origin is Origin.BOOTSTRAP and address.peer not in self._connected:
            self._sought.setdefault(address.peer, []).append(multiaddr)
        if len(known.places) > self.config.places_per_peer_max:
            # Of equals the newest goes: inventing places does not push true ones out.
            goes = max(reversed(known.places.values()), key=Place.uselessness)
            del known.places[goes.multiaddr]
        return True

    def _file(self, peer: PeerId) -> None:
        """Bring what is queued and counted in step with what is known of `peer`."""
        known = self._peers.get(peer)
        is_idle = known is not None and self._is_idle(peer)
        for rank, queue in self._queues.items():
            if known is not None and is_idle and rank is known.rank:
                queue.put(peer, known.due_at)
            else:
                queue.take_out(peer)
        if known is not None and not known.is_admitted and known.rank is Rank.SOUND:
            self._strangers.add(peer)
        else:
            self._strangers.discard(peer)

    @property
    def _queues(self) -> dict[Rank, DueQueue | Hearsay]:
        return {Rank.SOUND: self._sound, Rank.SILENT: self._silent, Rank.HEARSAY: self._hearsay}

    def _is_idle(self, peer: PeerId) -> bool:
        return peer not in self._connected and peer not in self._dialling

    def _make_room(self, origin: Origin) -> bool:
        """Room for one more peer: the oldest hearsay goes. If there is none, who is thought gone for
        longest goes, but not for hearsay."""
        is_full = len(self._peers) >= self.config.peers_max
        if not is_full and not (origin.is_hearsay and self._hearsay.is_full):
            return True
        goes = self._hearsay.oldest
        if goes is None and not origin.is_hearsay:
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

    def _lose_member(self, known: KnownPeer, peer: PeerId, stayed: float, now: float) -> None:
        known.met_at = now
        if stayed >= self.config.settle_time:
            known.note_where_it_is(now)
            known.forgive()
        else:
            known.drops += 1  # Of the peer, not of its places: it could tell of new ones each time.
        delay = self._backoff(known.drops)
        if known.drops > 0:
            known.not_before = max(known.not_before, now + delay)
        for place in known.places.values():
            place.due_at = now + delay + self._turn(peer)

    def _forget_if_untrue(self, peer: PeerId, now: float) -> None:
        """Hearsay goes that did not come true, often enough or for long enough."""
        known = self._peers.get(peer)
        if known is None or not known.is_hearsay or peer in self._connected:
            return
        is_old = now - known.heard_at >= self.config.hearsay_time
        if is_old or known.failures >= self.config.hearsay_failures_max:
            del self._peers[peer]
            self._sought.pop(peer, None)

    def _next_sought(self, peer: PeerId) -> Place | None:
        """The place to try next for whoever waits for `peer`. None: all were tried."""
        known, left = self._peers.get(peer), self._sought.pop(peer)
        places = [known.places[each] for each in left if each in known.places] if known else []
        if not places:
            return None
        place = min(places, key=Place.order)
        self._sought[peer] = [each for each in left if each != place.multiaddr]
        return place

    def _by_chance(self, count: int, now: float) -> list[PeerId]:
        """Up to `count` of those that are due."""
        chosen = self._sound.sample(count, now, self.rng)
        others: tuple[DueQueue | Hearsay, ...] = (self._silent, self._hearsay)
        for queue in self.rng.sample(others, 2):
            chosen += queue.sample(count - len(chosen), now, self.rng)
        return chosen

    def _dial(self, peer: PeerId, place: Place) -> PeerAddress:
        """That `place`, taken."""
        self._dialling.add(peer)
        self._file(peer)
        return PeerAddress(peer, place.multiaddr)

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
