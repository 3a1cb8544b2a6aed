"""Leases: which slots of which peers our own requests hold now, and how far they are.

A front counts a lease the moment it chose, before the first byte goes out, so that a
burst of requests does not pile up on a peer whose own report is half a second old.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from federation.backend import Usage
from federation.work import Work
from ledger.records import ModelName
from p2p.peer import PeerId


@dataclass(slots=True, eq=False)
class Lease:
    """One request's hold on slots of one peer, and what was heard of it so far."""

    peer: PeerId
    model: ModelName
    work: Work
    began_at: float
    slots: int
    """0: what it asks for takes none."""
    cached_share: float = 0.0
    """Of its prompt, what the peer probably need not read."""
    held_share: float = 0.0
    """Of its prompt, what the peer once read, whatever it keeps."""
    was_cold: bool = False
    """Its model had to be loaded, all of it."""
    is_probe: bool = False
    """It tries a circuit that is half-open."""
    is_settled: bool = False
    """How it ended has been noted."""
    heard_at: float = field(init=False)
    """Last sign of life; until there is one, the start."""
    begun_at: float | None = None
    """First content."""
    tokens: float = 0.0
    """Delivered, of all choices."""
    unmeasured_tokens: float = 0.0
    """That came since the last measurement, in `unmeasured_seconds` of which we waited `waited_seconds`."""
    unmeasured_seconds: float = 0.0
    waited_seconds: float = 0.0
    concurrency: float = 1.0
    """Answers that ran there when that measurement began."""

    def __post_init__(self) -> None:
        self.heard_at = self.began_at

    def spent(self, usage: Usage) -> int:
        """Tokens that it cost by the word of its peer, as far as that can be."""
        return self.work.credible(usage.prompt_tokens) + min(usage.completion_tokens, round(self.tokens))


class Leases:
    """All of this front's, per peer and model. Nothing is kept of a peer that has none."""

    def __init__(self) -> None:
        self._held: dict[tuple[PeerId, ModelName], dict[Lease, None]] = {}

    @contextmanager
    def hold(self, lease: Lease) -> Iterator[Lease]:
        """Count `lease`. Released on success, error and cancellation alike."""
        key = (lease.peer, lease.model)
        held = self._held.setdefault(key, {})
        held[lease] = None
        try:
            yield lease
        finally:
            del held[lease]
            if not held:
                del self._held[key]

    def count(self, peer: PeerId, model: ModelName) -> int:
        """Slots of `model` on `peer` that are ours now."""
        return sum(lease.slots for lease in self._held.get((peer, model), ()))

    def of(self, peer: PeerId, model: ModelName) -> Sequence[Lease]:
        """Those on `model` of `peer`, oldest first."""
        return tuple(self._held.get((peer, model), ()))

    def __len__(self) -> int:
        """All of them, on all peers."""
        return sum(map(len, self._held.values()))
