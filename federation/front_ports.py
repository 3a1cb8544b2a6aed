"""What a front needs of the node around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from federation.aliases import Aliases
from ledger.records import ModelName
from ledger.revision import Revision
from ledger.view import NodeView
from p2p.peer import PeerId


class View(Protocol):
    """What a front needs of `ledger.view.SwarmView`."""

    revision: Revision

    def nodes(self) -> Sequence[NodeView]:
        """Every node, ours too."""

    def aliases(self) -> Aliases:
        """Other names for models."""


class Feeds(Protocol):
    """What a front needs of `load_feed_client.LoadFeeds`."""

    def note_use(self, peer: PeerId) -> None:
        """We have something to do with `peer`."""

    def tell_waiting(self, peer: PeerId, model: ModelName, wanted: int) -> None:
        """So many of our requests wait for a slot of `model`; `peer` may have one."""
