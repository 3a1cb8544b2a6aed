"""Leases: which slots of which peers our own requests hold now.

A front counts a lease the moment it chose, before the first byte goes out, so that a
burst of requests does not pile up on a peer whose own report is half a second old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.records import ModelName
from p2p.peer import PeerId


class Leases:
    """Counts of slots held, per peer and model. Nothing is kept of a peer that has none."""

    def __init__(self) -> None:
        self._held: Counter[tuple[PeerId, ModelName]] = Counter()

    @contextmanager
    def hold(self, peer: PeerId, model: ModelName) -> Iterator[None]:
        """Hold one slot of `model` on `peer`. Released on success, error and cancellation alike."""
        key = (peer, model)
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
            assert self._held[key] >= 0
            if self._held[key] == 0:
                del self._held[key]

    def count(self, peer: PeerId, model: ModelName) -> int:
        """Slots of `model` on `peer` that are ours now."""
        return self._held[peer, model]
