"""Allowance: so many at once, and so many a second after that. A token bucket.

What one peer can make us do is bounded by one of these, so that it can waste its own
share and nobody else's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from p2p.peer import PeerId


@dataclass(slots=True)
class Allowance:
    """Begins full."""

    burst: float
    rate: float
    """A second."""
    _left: float = math.inf
    _seen_at: float = 0.0

    def left(self, now: float) -> float:
        """How much may be spent now. Below zero: that much was spent beyond it."""
        return min(self.burst, self._left + self.rate * (now - self._seen_at))

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` are granted. They are spent."""
        granted = max(0, min(wanted, int(self.left(now))))
        self.spend(granted, now)
        return granted

    def spend(self, amount: int, now: float) -> None:
        """For what shows its cost only when it is done: it may go beyond what is left."""
        self._left = self.left(now) - amount
        self._seen_at = now


@dataclass(slots=True)
class Allowances:
    """One for each peer. It outlives the peer's link, or whoever comes anew would begin anew."""

    burst: float
    rate: float
    """A second."""
    _by_peer: dict[PeerId, Allowance] = field(default_factory=dict)
    """A full one is as good as none, and is forgotten when another is made."""

    def of(self, peer: PeerId, now: float) -> Allowance:
        """That of `peer`, to take from."""
        allowance = self._by_peer.get(peer)
        if allowance is None:
            spent = ((each, its) for each, its in self._by_peer.items() if its.left(now) < self.burst)
            self._by_peer = dict(spent)
            allowance = self._by_peer[peer] = Allowance(self.burst, self.rate)
        return allowance
