"""Boot ids: how a restarted node is told from two nodes that share one key.

A process takes a new boot id when it starts. A restart therefore brings an id that
was never seen. An id that another one has replaced, and that comes back, belongs
to a process that is alive beside its successor: somebody copied a home.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2p.peer import PeerId

PEERS_MAX = 1024
"""As many as the address book holds. Forgetting one only delays the discovery of a copy."""


@dataclass(slots=True)
class BootIds:
    """The latest boot id of each peer, and the one that it replaced."""

    _seen: dict[PeerId, tuple[str, str]] = field(default_factory=dict)

    def is_replaced(self, peer: PeerId, boot_id: str) -> bool:
        """Whether `boot_id` had a successor already: two processes of `peer` are alive."""
        return peer in self._seen and self._seen[peer][1] == boot_id

    def remember(self, peer: PeerId, boot_id: str) -> None:
        """`peer` runs as `boot_id` now."""
        latest, replaced = self._seen.pop(peer, (boot_id, ""))
        self._seen[peer] = (boot_id, replaced if latest == boot_id else latest)
        if len(self._seen) > PEERS_MAX:
            del self._seen[next(iter(self._seen))]
