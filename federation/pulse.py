"""The port by which a front asks whether a silent peer lives."""

from __future__ import annotations

from typing import Protocol

from p2p.peer import PeerId


class Pulse(Protocol):
    """Who lives, as somebody knows who asks them all the time (`ledger/prober.py`)."""

    def ask(self, peer: PeerId) -> float:
        """Have `peer` give a sign of life. Returns the time, of this one's own clock."""

    def has_heard(self, peer: PeerId, since: float) -> bool:
        """Whether it gave one since then. True where that cannot be known."""


class NobodyKnows:
    """A pulse where nobody asks."""

    def ask(self, peer: PeerId) -> float:
        del peer
        return 0.0

    def has_heard(self, peer: PeerId, since: float) -> bool:
        del peer, since
        return True
