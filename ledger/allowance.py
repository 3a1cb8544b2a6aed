"""Allowance: so many at once, and so many a second after that. A token bucket.

What one peer can make us do is bounded by one of these, so that it can waste its own
share and nobody else's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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
