"""Deadlines: when each of many peers is due, with the soonest at hand.

Asked for the soonest after each event, told a new one rarely: a heap, in which what was
changed or dropped stays until it comes up, and is then passed over.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from p2p.peer import PeerId


@dataclass(slots=True)
class Deadlines:
    """One per peer. Iterating gives the times, in no order."""

    _at: dict[PeerId, float] = field(default_factory=dict)
    _heap: list[tuple[float, PeerId]] = field(default_factory=list)

    def __iter__(self) -> Iterator[float]:
        return iter(self._at.values())

    @property
    def soonest(self) -> float:
        """The next one, or infinity."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def set(self, peer: PeerId, at: float) -> None:
        """`peer` is due then, instead of when it was before."""
        self._at[peer] = at
        heapq.heappush(self._heap, (at, peer))

    def drop(self, peer: PeerId) -> None:
        self._at.pop(peer, None)

    def due(self, now: float) -> list[PeerId]:
        """Who is due, the longest first. They stay until they are set anew or dropped."""
        if self.soonest > now:
            return []
        return [peer for _, peer in sorted((at, peer) for peer, at in self._at.items() if at <= now)]

    def postpone(self, by: float, not_before: float) -> None:
        """Make everybody due this much later, and in no case before that time."""
        for peer, at in self._at.items():
            self._at[peer] = max(at + by, not_before)
        self._heap = sorted((at, peer) for peer, at in self._at.items())
