"""Allowance: so many at once, and so many a second after that. A token bucket.

What one peer can make us do is bounded by one of these.
Reads no clock; `now` is an argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_ROUNDING = 0.01
"""Seconds after the exact moment at which one may be taken: rounded down it would be none yet, and who
asks at that very moment would ask for ever."""


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

    @property
    def is_spent(self) -> bool:
        """Whether not even one could be taken when it was last tried."""
        return self._left < 1

    @property
    def next_at(self) -> float:
        """When one may be taken, if it `is_spent`."""
        return self._seen_at + (1 - self._left) / self.rate + _ROUNDING
