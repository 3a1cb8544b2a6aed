"""Hearsay: peers that nobody was met at, and that anybody may have made up.

    known      a bounded number, the oldest goes first
    dialled    so many a second, and so many at once

Whoever invents peers thereby neither pushes out nor keeps waiting those that are known better,
and makes us dial nobody often. Reads no clock; `now` and the dice are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p.address_book_config import AddressBookConfig
from p2p.allowance import Allowance
from p2p.due_queue import DueQueue
from p2p.peer import PeerId


@dataclass(slots=True)
class Hearsay:
    """Those with neither a connection nor a dial, and the dials of them."""

    config: AddressBookConfig
    _idle: dict[PeerId, None] = field(default_factory=dict)
    """The oldest first."""
    _queue: DueQueue = field(default_factory=DueQueue)
    _dialling: set[PeerId] = field(default_factory=set)
    """Those that were chosen by chance."""
    _allowance: Allowance = field(init=False)

    def __post_init__(self) -> None:
        self._allowance = Allowance(self.config.hearsay_burst, self.config.hearsay_rate)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._idle

    @property
    def is_full(self) -> bool:
        return len(self._idle) >= self.config.hearsay_max

    @property
    def oldest(self) -> PeerId | None:
        return next(iter(self._idle), None)

    @property
    def wake_at(self) -> float:
        """When `sample` will have something new to say, if nothing happens until then."""
        if len(self._dialling) >= self.config.hearsay_dials_max:
            return inf  # The end of one of them comes first.
        if not self._allowance.is_spent:
            return self._queue.wake_at
        next_at = self._allowance.next_at
        return next_at if self._queue.has_due else max(self._queue.wake_at, next_at)

    def put(self, peer: PeerId, at: float) -> None:
        """`peer` may be dialled from `at` on."""
        self._idle.setdefault(peer)
        self._queue.put(peer, at)

    def take_out(self, peer: PeerId) -> None:
        """`peer` is connected, being dialled, known better, or forgotten."""
        self._idle.pop(peer, None)
        self._queue.take_out(peer)

    def sample(self, count: int, now: float, rng: Random) -> list[PeerId]:
        """Up to `count` of those that are due, by chance. They are dialled until `dial_ended`."""
        due, free = len(self._queue.due(now)), self.config.hearsay_dials_max - len(self._dialling)
        wanted = min(count, due, free)
        granted = self._allowance.take(wanted, now) if wanted > 0 else 0
        chosen = self._queue.sample(granted, now, rng)
        self._dialling.update(chosen)
        return chosen

    def allow_one(self, now: float) -> bool:
        """Whether one more may be dialled now, whoever it is."""
        return self._allowance.take(1, now) > 0

    def dial_ended(self, peer: PeerId) -> None:
        """A dial of `peer` is over, whoever wanted it."""
        self._dialling.discard(peer)
