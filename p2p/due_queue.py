"""Due queue: peers that wait, each for its time, and those whose time has come.

Costs the same however many wait, and however many are due: a heap finds who is due, what changed
meanwhile is dropped when it comes up, and who is chosen by chance is found without a look at the others.

Reads no clock; `now` and the dice are arguments.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p.peer import PeerId

_STALE_MAX = 64
"""Entries of the heap that may be out of date, beyond one for each peer, before it is built anew."""


@dataclass(slots=True)
class DueQueue:
    """Each peer once. Whoever is due stays so until it is taken out, or put off."""

    _times: dict[PeerId, float] = field(default_factory=dict)
    _heap: list[tuple[float, PeerId]] = field(default_factory=list)
    _due: list[PeerId] = field(default_factory=list)
    _index: dict[PeerId, int] = field(default_factory=dict)
    """Where in `_due` each of them is."""

    def put(self, peer: PeerId, at: float) -> None:
        """`peer` is due at `at`, whenever it was before."""
        if self._times.get(peer) == at:
            return
        self._times[peer] = at
        self._remove_due(peer)
        heapq.heappush(self._heap, (at, peer))
        if len(self._heap) > 2 * len(self._times) + _STALE_MAX:
            self._heap = [(time, one) for one, time in self._times.items() if one not in self._index]
            heapq.heapify(self._heap)

    def take_out(self, peer: PeerId) -> None:
        """`peer` does not wait any more."""
        self._times.pop(peer, None)
        self._remove_due(peer)

    def due(self, now: float) -> Collection[PeerId]:
        """Everybody whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            at, peer = heapq.heappop(self._heap)
            if self._times.get(peer) == at and peer not in self._index:
                self._index[peer] = len(self._due)
                self._due.append(peer)
        return self._due

    def sample(self, count: int, now: float, rng: Random) -> list[PeerId]:
        """Up to `count` of those that are due, by chance. They stay due."""
        due = self.due(now)
        return rng.sample(self._due, min(len(due), max(0, count)))

    @property
    def wake_at(self) -> float:
        """When `due` will have grown, if nothing happens until then."""
        while self._heap and self._is_stale(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    @property
    def has_due(self) -> bool:
        """Whether there was anybody when `due` was last asked for."""
        return bool(self._due)

    def _is_stale(self, at: float, peer: PeerId) -> bool:
        return self._times.get(peer) != at or peer in self._index

    def _remove_due(self, peer: PeerId) -> None:
        """The last one takes its place, so that nobody else moves."""
        index = self._index.pop(peer, None)
        if index is None:
            return
        last = self._due.pop()
        if last != peer:
            self._due[index] = last
            self._index[last] = index
