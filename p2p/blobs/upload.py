"""Upload: which peer may send its next piece, and when.

    asks for a chunk -> waits for a slot -> holds it for a turn -> lets the next one have it

A few peers are served at once, each as fast as it reads, so that the chunks they ask for are whole soon and
can be passed on; the others wait in the order they came. Between those with a slot pieces go round.
All together keep to one rate, which is lower while this node infers. Whoever does not read keeps its slot
for one turn at most, if another waits.

Reads no clock, sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from p2p.allowance import Allowance
from p2p.peer import PeerId

PIECE_SIZE = 65_280
"""Bytes sent at a time under a low rate: with what is around it, two frames of yamux that share one message
of Noise. 64 KiB would take three of those, and more messages, each of which is encrypted twice."""
PIECE_SIZE_FAST = 261_504
"""Four times that, where nobody is to notice a piece: a byte then has a quarter of a message's costs."""
_BURST_TIME = 0.02
"""Seconds of the rate that may be sent at once: a sleep ends some milliseconds late, `Allowance` adds ten,
and what could have been sent meanwhile would be lost."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What this node gives to its peers."""

    slots: int = 4
    """Peers served at once. BitTorrent's number: more makes every chunk late, fewer leaves a line idle when
    one of them reads slowly."""
    turn: float = 1.0
    """Seconds that a slot is held while others wait: some chunks at home's speeds."""
    rate: float = 0.0
    """Bytes a second to all peers together. 0: no limit."""
    busy_rate: float = 20e6
    """The same while this node infers; 0: no other limit than `rate`. Measured (`docs/models.md`): where an
    engine shares two cores with both ends of a transfer, the 95th percentile of the gaps between its tokens
    is 1.1 times what it is in quiet at 10 MB/s, and 1.2 to 1.4 times at 20; 1.5 is the aim, and slower
    machines have the rest. It is a sixth of a gigabit line."""

    def rate_now(self, *, is_inference_busy: bool) -> float:
        """Bytes a second that may be sent now; 0: no limit."""
        rates = [self.rate, self.busy_rate] if is_inference_busy else [self.rate]
        return min(filter(None, rates), default=0.0)

    def piece_size(self, *, is_inference_busy: bool) -> int:
        """Bytes that should be sent at a time now: small ones keep a low rate even, and tokens in between."""
        rate = self.rate_now(is_inference_busy=is_inference_busy)
        is_fast = not rate or _BURST_TIME * rate >= PIECE_SIZE_FAST
        return PIECE_SIZE_FAST if is_fast and not is_inference_busy else PIECE_SIZE


@dataclass(slots=True)
class Upload:
    """Turns of those who have a piece to send. A peer has one at a time."""

    limits: UploadLimits
    _waiting: dict[PeerId, int] = field(default_factory=dict)
    """Those without a slot, in the order of their turns, and the sizes of their pieces."""
    _holders: dict[PeerId, float] = field(default_factory=dict)
    """Those with a slot, and since when; the longest first."""
    _ready: dict[PeerId, int] = field(default_factory=dict)
    """Those of them that have a piece to send, in the order of their turns, and its size."""
    _allowance: Allowance | None = None
    """Bytes that may be sent; None: all."""

    def want(self, peer: PeerId, size: int, now: float) -> None:
        """`peer` has a piece of `size` bytes to send, and has sent the one before."""
        (self._ready if peer in self._holders else self._waiting)[peer] = size
        self._pass_slots_on(now)

    def leave(self, peer: PeerId, now: float) -> None:
        """`peer` has nothing to send, or is gone."""
        for each in (self._waiting, self._ready, self._holders):
            each.pop(peer, None)
        self._pass_slots_on(now)

    def peers(self) -> Collection[PeerId]:
        """Who wants pieces and has not left."""
        return {*self._waiting, *self._holders}

    def has_slot(self, peer: PeerId) -> bool:
        """Whether what is sent to `peer` next is worth keeping in memory: it is soon."""
        return peer in self._holders

    def due(self, now: float, *, is_inference_busy: bool) -> list[PeerId]:
        """Who may send its piece now. It counts as sent."""
        self._limit(self.limits.rate_now(is_inference_busy=is_inference_busy))
        self._pass_slots_on(now)
        may_send = []
        while self._ready and (self._allowance is None or self._allowance.left(now) >= 1):
            peer = next(iter(self._ready))
            size = self._ready.pop(peer)
            if self._allowance is not None:
                self._allowance.spend(size, now)
            may_send.append(peer)
        return may_send

    def spend(self, size: int, now: float) -> None:
        """Bytes were read for a peer that took back what it wanted: they count as if they were sent."""
        if self._allowance is not None:
            self._allowance.spend(size, now)

    @property
    def wake_at(self) -> float:
        """When `due` is to be asked again, if nothing happens before."""
        wake_at = math.inf
        if self._ready and self._allowance is not None:
            wake_at = self._allowance.next_at
        if self._waiting:
            wake_at = min(wake_at, min(self._holders.values()) + self.limits.turn)
        return wake_at

    def _limit(self, rate: float) -> None:
        if rate != (0.0 if self._allowance is None else self._allowance.rate):
            # What was sent under another limit is no debt under this one.
            self._allowance = Allowance(max(PIECE_SIZE, _BURST_TIME * rate), rate) if rate else None

    def _pass_slots_on(self, now: float) -> None:
        """Take slots from those whose turn is over, as far as others wait, and give away what is free."""
        wanted = len(self._waiting) - (self.limits.slots - len(self._holders))
        for holder, since in list(self._holders.items())[: max(0, wanted)]:
            if since + self.limits.turn > now:
                break
            del self._holders[holder]
            if (size := self._ready.pop(holder, None)) is not None:
                self._waiting[holder] = size
        while self._waiting and len(self._holders) < self.limits.slots:
            peer = next(iter(self._waiting))
            self._ready[peer] = self._waiting.pop(peer)
            self._holders[peer] = now
