"""Timeline: a heap of what happens next, and the time it is.

Of two things at one time the one that was planned first happens first, so a run
depends on nothing but its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

Act: TypeAlias = Callable[[Any, Any], None]
"""What happens: a function of two arguments, for that is cheaper a million times over than a closure."""


class Timeline:
    """Virtual time, in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened = 0
        """How many things."""
        self._heap: list[tuple[float, int, Act, Any, Any]] = []
        self._sequence = count()

    def at(self, time: float, act: Act, one: Any = None, other: Any = None) -> None:
        """Plan `act(one, other)`."""
        heapq.heappush(self._heap, (time, next(self._sequence), act, one, other))

    def run(self, duration: float) -> None:
        """Let `duration` seconds pass."""
        end = self.now + duration
        heap, pop = self._heap, heapq.heappop
        happened = 0
        while heap and heap[0][0] <= end:
            self.now, _, act, one, other = pop(heap)
            happened += 1
            act(one, other)
        self.happened += happened
        self.now = end
