"""Who has been away for so long that its copies do not count any more. Reads no clock.

Machines are restarted, and laptops are closed: to copy their models elsewhere each time
would keep the network busy for nothing. What counts is for how long *we* have missed somebody, since no two
machines' clocks are compared; who has just started has missed nobody yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2p.peer import PeerId

PATIENCE = 600.0
"""Seconds. Long enough for a restart with updates, short enough that a second death in the same evening
rarely comes before the copy."""


@dataclass(slots=True)
class Absences:
    """Since when each peer is missed."""

    patience: float = PATIENCE
    _since: dict[PeerId, float] = field(default_factory=dict)

    def note(self, missed: Iterable[PeerId], now: float) -> None:
        """Of all members, those in `missed` are not here now."""
        self._since = {peer: self._since.get(peer, now) for peer in missed}

    def gone(self, now: float) -> frozenset[PeerId]:
        """Who has been missed for `patience` seconds."""
        return frozenset(peer for peer, since in self._since.items() if now - since >= self.patience)

    def wake_at(self, now: float) -> float:
        """When the next of them will have been; infinite if nobody is missed."""
        due = (since + self.patience for since in self._since.values())
        return min((at for at in due if at > now), default=math.inf)
