"""How many bytes each peer was sent, or sent us. A counter that cannot grow without end."""

from __future__ import annotations

from collections import Counter

from p2p.peer import PeerId

_COUNTED_MAX = 1024
"""Peers, those that came last: more than a swarm at home has."""


class PeerBytes(Counter[PeerId]):
    """Bytes by peer."""

    def note(self, peer: PeerId, size_bytes: int) -> None:
        """So many more."""
        self[peer] += size_bytes
        if len(self) > _COUNTED_MAX:
            del self[next(iter(self))]
