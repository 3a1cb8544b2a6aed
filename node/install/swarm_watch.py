"""The swarm while something is got from it: who has what now, and waiting until that is otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, Self, TypeVar

import trio

from ledger.view import NodeView
from node.errors import NodeError
from node.install.search import Copies, Matches, whole_copies
from p2p.errors import P2PError
from p2p.peer import PeerId
from p2p.revision import Revision

T = TypeVar("T")

_MEETING_TIME = 10.0
"""Seconds after a node's start in which it meets the others: about one at home, some on a busy machine."""
_LOOK_INTERVAL = 1.0
"""Seconds between two looks at what no change of the view tells of."""


class View(Protocol):
    """The swarm as this node sees it: a `SwarmView`."""

    revision: Revision

    def nodes(self) -> Sequence[NodeView]: ...


class SwarmWatch:
    """Looks at `view` for `me`, from the start of the node on."""

    def __init__(self, view: View, me: PeerId) -> None:
        self.me = me
        self._view = view
        self._met_by = trio.current_time() + _MEETING_TIME

    def nodes(self) -> Sequence[NodeView]:
        return self._view.nodes()

    def names(self) -> Mapping[PeerId, str]:
        """What people call each node."""
        return {node.peer: node.name for node in self.nodes()}

    def whole(self, matches: Matches) -> Copies | None:
        """Whole copies of the model that `matches`, at others."""
        return whole_copies(self.nodes(), self.me, matches)

    async def has_met(self, matches: Matches) -> bool:
        """Whether somebody who had what `matches` when last heard has come back, for whom a node waits that
        has just started: what it would get elsewhere it gets from them in a moment."""
        here, away = self._having(matches)
        if here or not away:
            return False
        with trio.move_on_at(self._met_by):
            # Who has just come back may have to look at its files before it says again what they are.
            await self.wait_until(lambda: bool(self._having(matches)[0]))
        return bool(self._having(matches)[0])

    def peers(self, pick: Callable[[Sequence[NodeView]], Collection[PeerId]]) -> PeersAsTheyChange:
        """Those that `pick` finds, and again whenever they are others."""
        return PeersAsTheyChange(self._view.revision, lambda: pick(self.nodes()))

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as that is so; what other than the view it tells of may be seen a second late."""
        while True:
            number = self._view.revision.number
            if condition():
                return
            with trio.move_on_after(_LOOK_INTERVAL):
                await self._view.revision.after(number)

    async def until(self, is_over: Callable[[], bool], work: Callable[[], Awaitable[T]]) -> T | None:
        """What `work` returns; None if `is_over` came first, which cancels it.

        Raises: what `work` raises.
        """
        result: T | None = None
        failure: Exception | None = None

        async def watch(scope: trio.CancelScope) -> None:
            await self.wait_until(is_over)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                result = await work()
            except (NodeError, P2PError) as error:
                failure = error  # Carried out by hand: the nursery would wrap it in a group.
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    def _having(self, matches: Matches) -> tuple[list[PeerId], list[PeerId]]:
        """Which of the others have what `matches`: those who are here, and those who are not."""
        having = [node for node in self.nodes() if node.peer != self.me and any(map(matches, node.models))]
        away = [node.peer for node in having if node.state == "offline"]
        return [node.peer for node in having if node.state != "offline"], away


class PeersAsTheyChange:
    """An async iterable of sets of peers."""

    def __init__(self, revision: Revision, pick: Callable[[], Collection[PeerId]]) -> None:
        self._revision = revision
        self._pick = pick
        self._said: frozenset[PeerId] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Collection[PeerId]:
        while True:
            number, peers = self._revision.number, frozenset(self._pick())
            if peers != self._said:
                self._said = peers
                return peers
            await self._revision.after(number)
