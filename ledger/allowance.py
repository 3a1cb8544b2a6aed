"""Allowances: one for each peer, so many at once and so many a second after that.

What one peer can make us do is bounded by one of these, so that it can waste its own
share and nobody else's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.allowance import Allowance
from p2p.peer import PeerId


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
