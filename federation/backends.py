"""Backends: how each candidate is asked, ourselves without a stream and members of the swarm over one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from federation import turns
from federation.backend import Infers
from federation.balancer import Candidate
from federation.gated_backend import GatedBackend
from p2p.peer import PeerId


@dataclass(slots=True)
class Backends:
    """Those of one front, each made once."""

    me: PeerId
    view: turns.View
    local: GatedBackend | None
    """This node's own worker; None: it has none."""
    remote: Callable[[PeerId], Infers]
    """Makes the way to a peer's."""
    _remotes: dict[PeerId, Infers] = field(default_factory=dict)
    """Of members of the swarm, once they were asked."""

    def of(self, candidate: Candidate) -> Infers:
        """Whom to ask."""
        if candidate.is_local:
            assert self.local is not None
            return self.local.for_front(self.me)
        if candidate.peer not in self._remotes:
            # Who has left the swarm would stay for ever: founding a home anew makes another peer.
            members = {node.peer for node in self.view.nodes()}
            self._remotes = {peer: each for peer, each in self._remotes.items() if peer in members}
            self._remotes[candidate.peer] = self.remote(candidate.peer)
        return self._remotes[candidate.peer]
