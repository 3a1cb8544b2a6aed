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
from itertools import islice

from p2p.peer import PeerId

RETRANSMIT_FACTOR = 3
"""How often a rumour rides along is this times log2 of the swarm's size. SWIM shows that a small
multiple of the logarithm reaches everyone; 3 leaves room for a few lost frames."""

IDLE_RETRANSMIT_FACTOR = 1
"""The same for what can wait: that somebody new lives. A thousand that start at once are news to each
other; told thirty times, that would fill every frame for six minutes. Who misses it learns it by
asking (`claims_exchange.py`)."""

INCARNATION_MAX = 2**62
"""Incarnations count refutations; an honest one never gets here."""

JUMP_MAX = 2**20
"""How far a claim may be ahead of the last one on that peer. To miss so many, an honest node would have
to be away while another is wrongly blamed once a second for twelve days. Without the bound, one lie that
names the largest incarnation could never be refuted; with it, a liar needs 2**42 lies, and a refutation
after each."""

FIRST_INCARNATION_MAX = 2**60
"""The same where nothing is held to compare with: enough room for whomever liars have driven upwards."""


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


def complaint(claim: Claim) -> Claim | None:
    """What `claim` holds against a peer, if anything."""
    return claim if claim.status in (Status.SUSPECT, Status.OFFLINE) else None


def is_credible(claim: Claim, held_incarnation: int) -> bool:
    """Whether `claim` may be true of a peer of whom `held_incarnation` is held (`UNKNOWN`'s: nothing)."""
    if held_incarnation == UNKNOWN.incarnation:
        return claim.incarnation <= FIRST_INCARNATION_MAX
    return claim.incarnation <= held_incarnation + JUMP_MAX


@dataclass(slots=True)
class RumourQueue:
    """Rumours that ride along on frames until enough peers must have heard them.

    Holds one rumour per peer, the newest. A frame costs the same however many wait.
    """

    retransmit_factor: int = RETRANSMIT_FACTOR
    _told: dict[PeerId, int] = field(default_factory=dict)
    _by_told: list[dict[PeerId, Claim]] = field(default_factory=list)
    """The claims told so often, each in the order in which they got there."""

    def add(self, peer: PeerId, claim: Claim) -> None:
        """Spread `claim` from now on, instead of what was said of `peer` before."""
        self.drop(peer)
        self._put(peer, claim, 0)

    def take(self, count_max: int, swarm_size: int) -> tuple[Rumour, ...]:
        """The rumours for one frame, those told least often first."""
        if not self._told:
            return ()
        taken: list[Rumour] = []
        for claims in self._by_told:
            if len(taken) == count_max:
                break
            taken += (Rumour(*item) for item in islice(claims.items(), count_max - len(taken)))
        told_max = self.retransmit_factor * math.ceil(math.log2(swarm_size + 1))
        for rumour in taken:
            told = self._told[rumour.peer] + 1
            self.drop(rumour.peer)
            if told < told_max:
                self._put(rumour.peer, rumour.claim, told)
        return tuple(taken)

    def drop(self, peer: PeerId) -> None:
        """Say no more about `peer`."""
        if (told := self._told.pop(peer, None)) is not None:
            del self._by_told[told][peer]

    def clear(self) -> None:
        self._told.clear()
        self._by_told.clear()

    def _put(self, peer: PeerId, claim: Claim, told: int) -> None:
        while len(self._by_told) <= told:
            self._by_told.append({})
        self._told[peer] = told
        self._by_told[told][peer] = claim
