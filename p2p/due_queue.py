"""Due queue: peers that wait, each for its time, and those whose time has come.

Costs the same however many wait: a heap finds who is due, and what changed meanwhile is
dropped when it comes up.

Reads no clock; `now` is an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf

from p2p.peer import PeerId

_STALE_MAX = 64
"""Entries of the heap that may be out of date, beyond one for each peer, before it is built anew."""


@dataclass(slots=True)
class DueQueue:
    """Each peer once. Whoever is due stays so until it is taken out, or put off."""

    _times: dict[PeerId, float] = field(default_factory=dict)
    _heap: list[tuple[float, PeerId]] = field(default_factory=list)
    _due: dict[PeerId, None] = field(default_factory=dict)  # A set would tell one seed two stories.

    def put(self, peer: PeerId, at: float) -> None:
        """`peer` is due at `at`, whenever it was before."""
        if self._times.get(peer) == at:
            return
        self._times[peer] = at
        self._due.pop(peer, None)
        heapq.heappush(self._heap, (at, peer))
        if len(self._heap) > 2 * len(self._times) + _STALE_MAX:
            self._heap = [(time, one) for one, time in self._times.items() if one not in self._due]
            heapq.heapify(self._heap)

    def take_out(self, peer: PeerId) -> None:
        """`peer` does not wait any more."""
        self._times.pop(peer, None)
        self._due.pop(peer, None)

    def due(self, now: float) -> Collection[PeerId]:
        """Everybody whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            at, peer = heapq.heappop(self._heap)
            if self._times.get(peer) == at:
                self._due[peer] = None
        return self._due.keys()

    @property
    def wake_at(self) -> float:
        """When `due` will have grown, if nothing happens until then."""
        while self._heap and self._is_stale(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def _is_stale(self, at: float, peer: PeerId) -> bool:
        return self._times.get(peer) != at or peer in self._due
