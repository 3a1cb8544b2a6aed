"""Boot ids: how a restarted node is told from two nodes that share one key.

A process takes a new boot id when it starts. A restart therefore brings an id that
was never seen. An id that another one has replaced, and that comes back, belongs
to a process that is alive beside its successor: somebody copied a home.

This is a suspicion, and enough for a line in the log. The ledger proves it, to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from p2p.peer import PeerId

PEERS_MAX = 4096
"""As many as the address book holds. Forgetting one only delays the discovery of a copy."""


@dataclass(slots=True)
class _Boots:
    latest: str
    replaced: str = ""
    since: float = -inf
    """When the latest took the other's place."""


@dataclass(slots=True)
class BootIds:
    """The latest boot id of each peer, and the one that it replaced."""

    _seen: dict[PeerId, _Boots] = field(default_factory=dict)

    def is_replaced(self, peer: PeerId, boot_id: str) -> bool:
        """Whether `boot_id` had a successor already: two processes of `peer` are alive."""
        return peer in self._seen and self._seen[peer].replaced == boot_id

    def replaced_at(self, peer: PeerId) -> float:
        """When a process of `peer` last took another's place."""
        return self._seen[peer].since if peer in self._seen else -inf

    def remember(self, peer: PeerId, boot_id: str, now: float) -> None:
        """`peer` runs as `boot_id` now."""
        boots = self._seen.pop(peer, _Boots(boot_id))
        self._seen[peer] = boots if boots.latest == boot_id else _Boots(boot_id, boots.latest, now)
        if len(self._seen) > PEERS_MAX:
            del self._seen[next(iter(self._seen))]
