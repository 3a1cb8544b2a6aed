"""One known peer: the places it may be found at, who told us of them, and how they did."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf


class Origin(IntEnum):
    """Who told us of a place. When there are too many, the smaller goes first."""

    LEARNED = 1
    """Another peer."""
    SIGNED = 2
    """Its owner, in the ledger: whoever is a member, and no other peer can say it for it."""
    KEPT = 3
    """Our own last run."""
    NEARBY = 4
    """Whoever says on this LAN that it is the peer."""
    BOOTSTRAP = 5
    """The token. Never forgotten: it is the way back when all else is gone."""

    @property
    def is_hearsay(self) -> bool:
        """Whether anybody on the LAN, or any one peer, may have made it up."""
        return self in (Origin.LEARNED, Origin.NEARBY)


class Rank(IntEnum):
    """What we think of a peer that could be dialled."""

    SOUND = 0
    """It was met, or somebody vouched for it."""
    SILENT = 1
    """As that, but it is thought gone."""
    HEARSAY = 2
    """Nobody was ever met there."""


SILENT_FAILURES = 5
"""Dials in a row, over some ten seconds, that came to nothing at each place of a peer: it is thought
gone, and no longer counted when it is asked how large the swarm is."""


@dataclass(slots=True)
class Place:
    """One address of a peer."""

    multiaddr: str
    origin: Origin
    distance: int
    due_at: float
    """By its own back-off."""
    failures: int = 0
    """In a row."""
    worked_at: float = -inf
    """When a dial of it last led to the peer, a member."""

    def order(self) -> tuple[int, float, int]:
        """The smaller is dialled first. Of equals that is the one told first: who tells knows best."""
        return (self.failures, -self.worked_at, self.distance)

    def uselessness(self) -> tuple[bool, int, int, int]:
        """The larger goes first when there are too many."""
        return (self.worked_at == -inf, -self.origin, self.failures, self.distance)


@dataclass(slots=True)
class KnownPeer:
    """What we know of where a peer is."""

    heard_at: float = -inf
    """When it was first heard of."""
    places: dict[str, Place] = field(default_factory=dict)
    """In the order in which they were told."""
    failures: int = 0
    """Dials and connections in a row that came to nothing, wherever; no news makes it fewer."""
    drops: int = 0
    """Connections in a row that ended soon after it was admitted."""
    admitted_at: float | None = None
    """Since when it is a member."""
    reached_at: str | None = None
    """Where we dialled it for the connection it has now."""
    met_at: float = -inf
    """When it was last a member; its addresses are worth keeping then."""
    not_before: float = -inf
    """It is left alone until then, whatever is heard of it."""

    @property
    def is_admitted(self) -> bool:
        return self.admitted_at is not None

    @property
    def is_hearsay(self) -> bool:
        """Nobody was ever met there, and anybody on the LAN, or any one peer, may have made it up."""
        return self.met_at == -inf and all(place.origin.is_hearsay for place in self.places.values())

    @property
    def is_bootstrap(self) -> bool:
        return any(place.origin is Origin.BOOTSTRAP for place in self.places.values())

    @property
    def is_silent(self) -> bool:
        """It did not answer for a while, at any of its places."""
        return all(place.failures >= SILENT_FAILURES for place in self.places.values())

    @property
    def rank(self) -> Rank:
        if self.is_hearsay:
            return Rank.HEARSAY
        return Rank.SILENT if self.is_silent else Rank.SOUND

    @property
    def due_at(self) -> float:
        """When the first of its places may be dialled."""
        return max(self.not_before, min((place.due_at for place in self.places.values()), default=inf))

    def note_where_it_is(self, now: float) -> None:
        """It is a member: the place that led to it works."""
        place = self.places.get(self.reached_at) if self.reached_at is not None else None
        if place is not None and self.is_admitted:
            place.worked_at = now

    def forgive(self) -> None:
        """It was a member for a while: what failed before counts no more where it was found. Where nothing
        tells us which place that was, each begins anew, and the last one that worked goes first."""
        self.failures = self.drops = 0
        reached = self.places.get(self.reached_at) if self.reached_at is not None else None
        if reached is not None:
            reached.failures = 0
            return
        for place in self.places.values():
            place.failures = min(place.failures, 1)


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
