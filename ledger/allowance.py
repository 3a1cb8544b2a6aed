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

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` are granted. They are spent."""
        self._left = min(self.burst, self._left + self.rate * (now - self._seen_at))
        self._seen_at = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted

    def is_full(self, now: float) -> bool:
        """Whether nothing is spent any more."""
        return self._left + self.rate * (now - self._seen_at) >= self.burst


@dataclass(slots=True)
class Allowances:
    """One for each peer. It outlives the peer's link, or whoever comes anew would begin anew."""

    burst: float
    rate: float
    """A second."""
    _by_peer: dict[PeerId, Allowance] = field(default_factory=dict)
    """A full one is as good as none, and is forgotten when another is made."""

    def take(self, peer: PeerId, wanted: int, now: float) -> int:
        """How many of `wanted` are granted to `peer`. They are spent."""
        allowance = self._by_peer.get(peer)
        if allowance is None:
            self._by_peer = {each: its for each, its in self._by_peer.items() if not its.is_full(now)}
            allowance = self._by_peer[peer] = Allowance(self.burst, self.rate)
        return allowance.take(wanted, now)
