"""A witness: sees all that happens in a world. What it makes of it: `invariants.py`, `stopwatch.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.entry import Entry
from ledger.replica import Change
from ledger.rumour import Status
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.sim.node import Node


class Witness:
    """Is told of everything, the moment it happens."""

    def begins_with(self, written: list[Entry]) -> None:
        """All replicas hold these from the start."""

    def said(self, node: Node, key: str, value: bytes | None) -> None:
        """`node` is about to say that its `key` has `value`."""

    def disturbed(self, node: Node | None) -> None:
        """Something befell `node`, or everybody."""

    def restarted(self, node: Node, *, has_disk: bool) -> None:
        """A fresh process of a member is about to begin."""

    def status_changed(self, observer: Node, peer: PeerId, status: Status) -> None:
        """`observer` believes something else of `peer`."""

    def ledger_changed(self, node: Node, change: Change) -> None:
        """An entry came into the replica of `node`, or left it."""

    def is_liar(self, node: Node) -> None:
        """`node` does not do what the protocols say, from now on."""
