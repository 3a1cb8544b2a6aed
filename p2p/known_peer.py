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
    KEPT = 2
    """Our own last run."""
    NEARBY = 3
    """The peer itself, on this LAN."""
    BOOTSTRAP = 4
    """The token. Never forgotten: it is the way back when all else is gone."""


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


@dataclass(slots=True)
class KnownPeer:
    """What we know of where a peer is."""

    places: dict[str, Place] = field(default_factory=dict)
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

    @property
    def is_silent(self) -> bool:
        """It did not answer for a while, at any of its places."""
        return all(place.failures >= SILENT_FAILURES for place in self.places.values())

    @property
    def due_at(self) -> float:
        """When the first of its places may be dialled."""
        return max(self.not_before, min((place.due_at for place in self.places.values()), default=inf))


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
