"""Peers that refused us for want of a slot, and how many slots they have for us since.

A refused request waits, and that peer is asked again once there is news of it: it offers a slot,
or says that some are free. Of what it has for us each request uses up one, so an offer is not
asked for twice. A peer of which there was no news for a while is asked again as if nothing had been.

Busy is not sick: nothing here speaks against a peer. Reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from federation.slot_gate import REMEMBERED_FOR
from ledger.records import Load, ModelName
from p2p.peer import PeerId

_KEPT_MAX = 1024
"""Peers and models: more than are asked within ten seconds. Of the oldest it is forgotten that it refused."""


@dataclass(slots=True)
class _Refusal:
    until: float
    load: Load | None
    """What was last known of it: the same again is no news."""
    offered: int = 0
    """Slots that it holds for us."""
    free: int = 0
    """Slots that it said are free, less those we asked for since."""


class BusyPeers:
    """Of all peers and models."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[PeerId, ModelName], _Refusal] = {}

    def refused(self, peer: PeerId, model: ModelName, slots: int, load: Load | None, now: float) -> None:
        """`peer` has fewer than `slots`; `load` is what the view shows, which may be older than its word."""
        self._forget(now)
        # As long as the peer remembers us, and will offer us what frees.
        refusal = self._refusals[peer, model] = _Refusal(now + REMEMBERED_FOR, load)
        if load is not None:
            # Who needs fewer may still get them.
            refusal.free = min(max(load.slots_total - load.slots_busy, 0), slots - 1)

    def seen(self, peer: PeerId, model: ModelName, load: Load | None, now: float) -> None:
        """The view shows `load` now."""
        refusal = self._refusals.get((peer, model))
        if refusal is not None and load is not None and load != refusal.load:
            refusal.load = load
            refusal.free = max(load.slots_total - load.slots_busy, 0)
            refusal.until = now + REMEMBERED_FOR

    def offered(self, peer: PeerId, model: ModelName, now: float) -> None:
        """`peer` holds a slot for us."""
        if (refusal := self._refusals.get((peer, model))) is not None:
            refusal.offered += 1
            refusal.until = now + REMEMBERED_FOR

    def asked(self, peer: PeerId, model: ModelName, slots: int) -> None:
        """`peer` is asked for so many of the slots it has for us."""
        if (refusal := self._refusals.get((peer, model))) is not None:
            from_offers = min(refusal.offered, slots)
            refusal.offered -= from_offers
            refusal.free = max(refusal.free - (slots - from_offers), 0)

    def may_ask(self, peer: PeerId, model: ModelName, slots: int, now: float) -> bool:
        """Whether `peer` may have so many for us."""
        refusal = self._refusals.get((peer, model))
        return refusal is None or refusal.until <= now or refusal.offered + refusal.free >= slots

    def asked_again_in(self, peers: Iterable[PeerId], model: ModelName, now: float) -> float:
        """Seconds until one of `peers` is asked again without news; infinite: no time is set for that."""
        ends = [self._refusals[peer, model].until for peer in peers if (peer, model) in self._refusals]
        return min((end - now for end in ends if end > now), default=math.inf)

    def _forget(self, now: float) -> None:
        for key in [key for key, refusal in self._refusals.items() if refusal.until <= now]:
            del self._refusals[key]
        if len(self._refusals) >= _KEPT_MAX:
            del self._refusals[next(iter(self._refusals))]
