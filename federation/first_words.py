"""First words: how late a peer's first content may be before somebody else is asked too.

    expected, and how long it took --> how many times longer than expected, lately --> late after

Late is what nineteen of twenty were not, of that peer's own latest first words. Besides, asking
twice is paid for: each stream that begins earns a share of one more, so the extra work never exceeds
that share, however slow the whole swarm is.

Reads no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from p2p.peer import PeerId

_KEPT = 64
"""Of one peer: some minutes of a busy one. Four times as many would know the 95th percentile no better than
that it changes with what is asked."""

_NEEDED = 20
"""Below so many, none is the one of twenty that is late."""

_LATE = 0.95

_PEERS_MAX = 4096
"""As many as a ledger has places."""

_SAVED_MAX = 2.0
"""Askings that may be saved up: after a quiet hour a swarm that stalls must not be asked everything twice."""


@dataclass(slots=True)
class FirstWords:
    """Of all peers, and what may be spent on those that are late. `share`: of extra work, 0 to 1."""

    share: float
    _saved: float = 0.0
    _stretches: dict[PeerId, deque[float]] = field(default_factory=dict)
    """How many times longer than expected each took. The peer heard last comes last."""

    def asked(self) -> None:
        """One more stream begins."""
        self._saved = min(self._saved + self.share, _SAVED_MAX)

    def came(self, peer: PeerId, expected: float, took: float) -> None:
        """`peer`'s first content came after `took` seconds, where so many were `expected` (more than 0)."""
        stretches = self._stretches.pop(peer, None) or deque(maxlen=_KEPT)
        stretches.append(took / expected)
        self._stretches[peer] = stretches
        if len(self._stretches) > _PEERS_MAX:
            del self._stretches[next(iter(self._stretches))]

    def late_after(self, peer: PeerId, expected: float) -> float | None:
        """Seconds after which its first content is late, where so many are `expected`. None: who can tell?"""
        stretches = self._stretches.get(peer, ())
        if len(stretches) < _NEEDED:
            return None
        return expected * sorted(stretches)[int(_LATE * len(stretches))]

    def spend(self) -> bool:
        """Whether one more may be asked now, which is then paid for."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
