"""What nodes say of each other's life: claims that merge, rumours that fade.

A claim is (incarnation, status) and the larger one stands, wherever it is heard and
in whatever order:

    unknown  <  alive 0  <  suspect 0  <  offline 0  <  alive 1  <  suspect 1  <  ...

Only the node itself raises its incarnation, so only it can take back what others
hold against it. (SWIM, section 4.2; unlike there, an offline node may come back.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from p2p.peer import PeerId

RETRANSMIT_FACTOR = 3
"""How often a rumour rides along is this times log2 of the swarm's size. SWIM shows that a small
multiple of the logarithm reaches everyone; 3 leaves room for a few lost frames."""


INCARNATION_MAX = 2**62
"""Incarnations count refutations; an honest one never gets here."""


class Status(IntEnum):
    """How alive a peer is believed to be. The order decides which of two claims stands."""

    # The numbers are on the wire: append only.
    UNKNOWN = 0
    """Known from the ledger alone. Never said to others."""
    ALIVE = 1
    SUSPECT = 2
    """It may be gone: choose it for nothing new."""
    OFFLINE = 3


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One statement on a peer's life."""

    incarnation: int
    status: Status


UNKNOWN = Claim(-1, Status.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Rumour:
    """A claim, and whom it is about."""

    peer: PeerId
    claim: Claim


@dataclass(slots=True)
class RumourQueue:
    """Rumours that ride along on frames until enough peers must have heard them.

    Holds one rumour per peer, the newest.
    """

    _told: dict[PeerId, int] = field(default_factory=dict)
    _claims: dict[PeerId, Claim] = field(default_factory=dict)

    def add(self, peer: PeerId, claim: Claim) -> None:
        """Spread `claim` from now on, instead of what was said of `peer` before."""
        self._claims[peer] = claim
        self._told[peer] = 0

    def take(self, count_max: int, swarm_size: int) -> tuple[Rumour, ...]:
        """The rumours for one frame, those told least often first."""
        least_told = sorted(self._told, key=lambda peer: (self._told[peer], peer))[:count_max]
        rumours = tuple(Rumour(peer, self._claims[peer]) for peer in least_told)
        for peer in least_told:
            self._told[peer] += 1
            if self._told[peer] >= RETRANSMIT_FACTOR * math.ceil(math.log2(swarm_size + 1)):
                self.drop(peer)
        return rumours

    def drop(self, peer: PeerId) -> None:
        """Say no more about `peer`."""
        self._claims.pop(peer, None)
        self._told.pop(peer, None)

    def clear(self) -> None:
        self._claims.clear()
        self._told.clear()
