"""Counts: what a front did that no client noticed, for the metrics.

By peer. A machine that founds its home anew is another peer each time, so those that were counted longest
ago make room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from p2p.peer import PeerId

_KEPT_MAX = 4096
"""Peers, of each count: as many as a ledger has places."""


class _ByPeer(Counter[PeerId]):
    """One count. The peer that it rose for last comes last."""

    def __setitem__(self, peer: PeerId, count: int) -> None:
        self.pop(peer, None)
        super().__setitem__(peer, count)
        if len(self) > _KEPT_MAX:
            del self[next(iter(self))]


@dataclass(slots=True)
class Counts:
    """Since the front started; they only rise."""

    refusals: Counter[PeerId] = field(default_factory=_ByPeer)
    """It said no before it accepted."""
    failures: Counter[PeerId] = field(default_factory=_ByPeer)
    """It accepted and could not go on, or could not be reached; stalls are among them."""
    stalls: Counter[PeerId] = field(default_factory=_ByPeer)
    """It fell silent."""
    hedges: Counter[PeerId] = field(default_factory=_ByPeer)
    """Its first content was late, and one more was asked."""
    retries: Counter[PeerId] = field(default_factory=_ByPeer)
    """It was asked after another one had been asked in vain, before anything was delivered."""
    resumes: Counter[PeerId] = field(default_factory=_ByPeer)
    """It went on with an answer that another one had begun."""

    def by_name(self) -> Mapping[str, Mapping[str, int]]:
        """All of them, each by peer id."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
