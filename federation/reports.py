"""Reports: how busy peers are with requests of others, by what they say of themselves.

A report counts our own requests too, and those we know better: what is over is of others.
It is right for the moment it was made, so it counts less the older it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.recent import Recent
from ledger.records import Load, ModelName
from p2p.peer import PeerId

_HALF_LIFE = 5.0
"""Seconds: what an answer takes, so half of those that ran then are over. New ones may have come, and whoever
relied on that would never ask a peer that it does not hear from."""
_KEPT_MAX = 4096
"""Peers and models: as many as a ledger has places."""


@dataclass(slots=True)
class _Report:
    in_view: Load | None
    """What the view showed when this was noted: the same again is no news."""
    is_from_view: bool
    busy: float
    """Slots that others hold."""
    queued: float
    at: float


class Reports:
    """Of all peers and models. Reads no clock."""

    def __init__(self) -> None:
        self._reports: Recent[tuple[PeerId, ModelName], _Report] = Recent(_KEPT_MAX)

    def seen(self, peer: PeerId, model: ModelName, load: Load | None, own: int, made_at: float) -> None:
        """The view shows `load`, which cannot be older than `made_at`, while we hold `own` slots."""
        report = self._reports.get((peer, model))
        if load is None:
            return
        if report is None or report.in_view != load:
            busy = max(load.slots_busy - own, 0)
            self._reports.put(
                (peer, model), _Report(load, is_from_view=True, busy=busy, queued=load.queued, at=made_at)
            )
        elif report.is_from_view:
            # It says the same again.
            report.at = max(report.at, made_at)

    def told(self, peer: PeerId, model: ModelName, load: Load, own: int, now: float) -> None:
        """An answer brought `load`, while we held `own` slots beside those of that answer."""
        report = self._reports.get((peer, model))
        in_view = report.in_view if report else None
        busy = max(load.slots_busy - own, 0)
        self._reports.put(
            (peer, model), _Report(in_view, is_from_view=False, busy=busy, queued=load.queued, at=now)
        )

    def busy(self, peer: PeerId, model: ModelName, now: float) -> float:
        """Slots that others hold."""
        report = self._reports.get((peer, model))
        return report.busy * _faded(report, now) if report else 0.0

    def queued(self, peer: PeerId, model: ModelName, now: float) -> float:
        """Requests that wait there."""
        report = self._reports.get((peer, model))
        return report.queued * _faded(report, now) if report else 0.0

    def __len__(self) -> int:
        return len(self._reports)


def _faded(report: _Report, now: float) -> float:
    return float(0.5 ** (max(now - report.at, 0.0) / _HALF_LIFE))
