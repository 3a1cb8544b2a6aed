"""Load progress: which of the thousands of steps of a load are worth a message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.engine.wire import Loading

_GROWTH = 0.01
"""A hundred messages a load at most: nobody sees less than a percent."""
_INTERVAL = 1.0
"""Seconds. A large file on a slow disk is shown to be alive."""


@dataclass(slots=True)
class LoadProgress:
    """What was said of one load."""

    clock: Callable[[], float]
    _fraction: float = 0.0
    _said_at: float = -_INTERVAL

    def read(self, fraction: float) -> list[Loading]:
        """So much of the weights is read, 0 to 1: what to say of it, if anything."""
        now = self.clock()
        if fraction < self._fraction + _GROWTH and now < self._said_at + _INTERVAL:
            return []
        self._fraction, self._said_at = fraction, now
        return [Loading(fraction)]
