"""Turns: which request of this front may have which peer's slot, and when.

    room          whose turn it is among ours
    busy peers    who refused us, and what they have for us since
    told          peers that know that we wait, and offer us what frees: through feeds, and at our own gate

A peer is told how many of ours want a slot there: those that wait, and those that are on their way to
it, which may come for a slot that is held for us.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Protocol

import trio

from federation.balancer import Candidate
from federation.busy_peers import BusyPeers
from federation.gated_backend import GatedBackend
from federation.room import Claim, NoPlace, Room, Visit
from federation.waiting_room import Waiting
from ledger.records import Load, ModelName
from ledger.revision import Revision
from ledger.view import NodeView
from p2p.peer import PeerId


class View(Protocol):
    """What a front needs of `ledger.view.SwarmView`."""

    revision: Revision

    def nodes(self) -> Sequence[NodeView]:
        """Every node, ours too."""


class Feeds(Protocol):
    """What a front needs of `load_feed_client.LoadFeeds`."""

    def note_use(self, peer: PeerId) -> None:
        """We have something to do with `peer`."""

    def tell_waiting(self, peer: PeerId, model: ModelName, wanted: int) -> None:
        """So many of our requests want a slot of `model` there."""


class Turns:
    """Of all requests of one front. One task `run`s it."""

    def __init__(self, me: PeerId, view: View, local: GatedBackend | None, feeds: Feeds | None) -> None:
        self._me = me
        self._view = view
        self._local = local
        self._feeds = feeds
        self._room = Room(self._tell_all)
        self._slotless = Room()
        """Who needs no slot gives way to nobody, and waits for models that may come back."""
        self._busy = BusyPeers()
        self._coming: Counter[tuple[PeerId, ModelName]] = Counter()
        """Requests that were sent there and not answered yet."""
        self._told: set[tuple[PeerId, ModelName]] = set()
        """Who believes that we want slots."""
        if local is not None:
            local.meet(me, partial(self.note_offer, me))

    async def run(self) -> None:
        """Follow the view until cancelled: its changes are news for who waits."""
        revision = self._view.revision
        number = revision.number
        while True:
            number = await revision.after(number)
            self._slotless.note_news()
            self._room.note_news()
            for model in self._room.report():
                # There may be peers that were not told yet.
                self._tell_all(model)

    def visit(self, claim: Claim, *, takes_slot: bool) -> AbstractAsyncContextManager[Visit]:
        """As `Room.visit`."""
        return (self._room if takes_slot else self._slotless).visit(claim)

    def waiting(self) -> Mapping[ModelName, Waiting]:
        """The line of each model that somebody waits for."""
        return self._room.report()

    def note_offer(self, peer: PeerId, model: ModelName) -> None:
        """`peer` holds a slot of `model` for us."""
        self._busy.offered(peer, model, trio.current_time())
        self._room.note_news(model)

    def askable(self, candidates: Sequence[Candidate], model: ModelName, slots: int) -> list[Candidate]:
        """Those that may have so many slots, as far as they told us."""
        now, loads = trio.current_time(), self._loads(model)
        for each in candidates:
            self._busy.seen(each.peer, model, loads[each.peer], now)
        return [each for each in candidates if not slots or self._busy.may_ask(each.peer, model, slots, now)]

    def all_taken(
        self, candidates: Sequence[Candidate], model: ModelName, waits_for: PeerId | None
    ) -> NoPlace:
        """None of `candidates` has a slot now."""
        peers = [each.peer for each in candidates]
        again_in = self._busy.asked_again_in(peers, model, trio.current_time())
        return NoPlace(again_in=again_in, waits_for=waits_for)

    @contextmanager
    def asking(self, candidate: Candidate, model: ModelName, slots: int) -> Iterator[None]:
        """`candidate` is asked for so many slots, and has not answered for as long as this is held."""
        peer = candidate.peer
        if self._feeds is not None and peer != self._me:
            self._feeds.note_use(peer)
        self._busy.asked(peer, model, slots)
        self._coming[peer, model] += slots
        try:
            yield
        finally:
            self._coming[peer, model] -= slots
            if not self._coming[peer, model]:
                del self._coming[peer, model]
            self._tell(peer, model)

    def refused(self, candidate: Candidate, model: ModelName, slots: int) -> None:
        """`candidate` has fewer than `slots`."""
        load = self._loads(model)[candidate.peer]
        self._busy.refused(candidate.peer, model, slots, load, trio.current_time())

    def _loads(self, model: ModelName) -> defaultdict[PeerId, Load | None]:
        """How busy each peer is with `model`, as far as we know."""
        return defaultdict(lambda: None, {node.peer: node.loads.get(model) for node in self._view.nodes()})

    def _tell_all(self, model: ModelName) -> None:
        """Tell whoever may have a slot of `model` for us, if we are connected, and who believes that we want
        one."""
        able = {
            node.peer
            for node in self._view.nodes()
            if node.is_connected and any(record.name == model for record in node.models)
        }
        for peer in sorted(able | {peer for peer, its_model in self._told if its_model == model}):
            self._tell(peer, model)

    def _tell(self, peer: PeerId, model: ModelName) -> None:
        """Tell `peer` how many slots of `model` we want, if anybody waits or it believes so."""
        waited_for = self._room.wanted(model)
        if not waited_for and (peer, model) not in self._told:
            return
        wanted = waited_for + self._coming[peer, model]
        if wanted:
            self._told.add((peer, model))
        else:
            self._told.discard((peer, model))
        if peer == self._me and self._local is not None:
            self._local.wait(peer, model, wanted)
        elif peer != self._me and self._feeds is not None:
            self._feeds.tell_waiting(peer, model, wanted)
