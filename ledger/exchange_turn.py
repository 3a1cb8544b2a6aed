"""Whose turn it is: a node asks one peer at a time for what it lacks.

A newcomer opens two dozen links in a moment, and each peer would send it the whole ledger.
So while one sends what differs, the others are asked in a later round, which then finds
little left. Nobody is kept waiting by one that never ends: a turn has an end, and the same
peer cannot have the next one at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2p.peer import PeerId

QUIET_TIME = 0.5
"""Seconds without a word after which a turn is over: several round trips."""
TURN_TIME_MAX = 5.0
"""Seconds of one turn: the ledger of a thousand nodes over a slow link. The rest comes with later turns."""


@dataclass(slots=True)
class ExchangeTurn:
    """Whom we ask now. Reads no clock."""

    _holder: PeerId | None = None
    _began_at: float = -math.inf
    _heard_at: float = -math.inf

    def take(self, peer: PeerId, now: float) -> bool:
        """Whether we may ask `peer`, which differs from us, for what we lack."""
        if self._is_over(now):
            if peer == self._holder and now < self._heard_at + 2 * QUIET_TIME:
                return False  # Others first.
            self._holder, self._began_at = peer, now
        if peer != self._holder:
            return False
        self._heard_at = now
        return True

    def heard(self, peer: PeerId, now: float) -> None:
        """`peer` sent something of what we asked for."""
        if peer == self._holder:
            self._heard_at = now

    def _is_over(self, now: float) -> bool:
        return now >= min(self._heard_at + QUIET_TIME, self._began_at + TURN_TIME_MAX)
