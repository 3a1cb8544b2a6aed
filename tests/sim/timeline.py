"""Timeline: a heap of what happens next, and the time it is.

Of two things at one time the one that was planned first happens first, so a run
depends on nothing but its seed. Time goes in ticks that a float holds exactly, also with
days added: else two ends of one link, each of which waits for the same second, would come
in one order or the other by the rounding of their clocks.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

Act: TypeAlias = Callable[[Any, Any], None]
"""What happens: a function of two arguments, for that is cheaper a million times over than a closure."""


TICKS = 2.0**20
"""A second: a microsecond is less than anything here takes, and 2**53 of them are centuries."""


def tick(time: float) -> float:
    """The first tick that is not before `time`."""
    return math.ceil(time * TICKS) / TICKS if time < math.inf else time


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
        heapq.heappush(self._heap, (tick(time), next(self._sequence), act, one, other))

    def run(self, duration: float) -> None:
        """Let `duration` seconds pass."""
        end = tick(self.now + duration)
        heap, pop = self._heap, heapq.heappop
        happened = 0
        while heap and heap[0][0] <= end:
            self.now, _, act, one, other = pop(heap)
            happened += 1
            act(one, other)
        self.happened += happened
        self.now = end
