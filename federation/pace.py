"""Pace: how fast one peer says something, and so how long its silence may last.

    chunk ... gap ... chunk --> mean gap --> max(3 s, 10 gaps), 10 s at most

A peer that works says PROGRESS every second, whatever its engine does, so silence means that the peer
itself stands still, or the way to it. Only our own waiting counts: a client that reads slowly makes no
peer slow.

Reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.infer import SILENCE_MAX

_SILENCE_MIN = 3.0
"""Seconds: three PROGRESS in a row did not come."""

_GAPS = 10
"""A peer whose machine is so busy that it speaks every half second may miss a few of its seconds too."""

_WEIGHT_OF_LATEST = 1 / 8
"""In the mean: one long gap says little."""


@dataclass(slots=True)
class Pace:
    """Of one peer."""

    gap: float = 0.0
    """Seconds between two chunks, on the mean; 0: none was measured."""

    def waited(self, seconds: float) -> None:
        """So long we waited for a chunk, since the one before it."""
        self.gap += (seconds - self.gap) * (_WEIGHT_OF_LATEST if self.gap else 1.0)

    @property
    def silence_max(self) -> float:
        """Seconds after which it has stalled, unless it is known to live."""
        return min(max(_SILENCE_MIN, _GAPS * self.gap), SILENCE_MAX)
