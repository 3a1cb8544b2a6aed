"""Keeps our ledger equal to everybody's: `sync.py` carried out between members.

One stream to each peer stays open, opened by the smaller peer id. Over it go

    a round       when it opens, and once a second with one random peer: all that
                  either lacks, which is everything for a newcomer and usually nothing
    news          of a write, to a few random peers, who pass it on if it is new to them

A peer that breaks the protocol loses its stream, and gets another try later.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol

import trio

from ledger.entry import Place
from ledger.errors import BadEntry
from ledger.ledger import Ledger
from ledger.state import Applied, RefusalReason, Refused
from ledger.sync import SyncSession
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    LEDGER_PROTOCOL,
    News,
    decode_message_untrusted,
    encode_message,
)
from p2p.errors import BadFrame, Unreachable
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost

_log = logging.getLogger(__name__)


class Members(Streams, Protocol):
    """What we need of a swarm."""

    def subscribe(self) -> AbstractContextManager[PeerEvents]:
        """Who comes and goes, beginning with everybody who is here."""


@dataclass(frozen=True, slots=True)
class ReplicationConfig:
    """How eagerly entries spread. Durations in seconds."""

    push_peers: int = 6
    """Who gets a new entry at once. In a swarm of seven that is everybody; in a larger one each passes
    it on to six more, which leaves out one in e**6 = 400, and a round finds that one."""
    round_interval: float = 1.0
    """Between two rounds that we begin; a round between equals is one frame of 40 bytes."""
    retry_delay: float = 1.0
    """Until a stream that ended, or could not be opened, is tried again: the peer has just started."""
    retry_delay_max: float = 30.0
    """The delay doubles up to this: a peer that does not speak the protocol, or breaks it, goes on so."""


class _Link:
    """The open stream to one peer."""

    def __init__(self, peer: PeerId, session: SyncSession, frames: FrameStream) -> None:
        self.peer = peer
        self.session = session
        self.frames = frames
        self.scope = trio.CancelScope()
        self.has_debts = trio.Event()
        self.is_paid = trio.Event()
        """Everything we owed is on its way, or never will be."""
        self.complaints: set[RefusalReason] = set()


class Replicator:
    """Spreads `ledger` among `members`. Answers from the moment it is made, begins with `run`."""

    def __init__(
        self, members: Members, ledger: Ledger, rng: Random, config: ReplicationConfig | None = None
    ) -> None:
        self._members = members
        self._ledger = ledger
        self._rng = rng
        self._config = config or ReplicationConfig()
        self._links: dict[PeerId, _Link] = {}
        members.on_stream(LEDGER_PROTOCOL, self._talk)

    async def run(self) -> None:
        """Spread until cancelled, or until the swarm ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push_own_writes)
            nursery.start_soon(self._begin_rounds)
            await self._follow_members(nursery)
            nursery.cancel_scope.cancel()

    async def spread(self, key: str) -> None:
        """Send what stands at our `key` to every peer, and wait until it is on its way to all.

        For last words: what is pushed otherwise may be cut off by a goodbye. Cancelled: it goes on.
        """
        links = list(self._links.values())
        for link in links:
            link.session.push(Place(self._ledger.me, key))
            link.is_paid = trio.Event()
            link.has_debts.set()
        for link in links:
            await link.is_paid.wait()

    async def _follow_members(self, nursery: trio.Nursery) -> None:
        keepers: dict[PeerId, trio.CancelScope] = {}
        with self._members.subscribe() as events:
            async for event in events:
                match event:
                    case PeerAdmitted(peer) if self._members.me < peer:
                        keepers[peer] = trio.CancelScope()
                        nursery.start_soon(self._keep_link, peer, keepers[peer])
                    case PeerLost(peer) if peer in keepers:
                        keepers.pop(peer).cancel()

    async def _keep_link(self, peer: PeerId, scope: trio.CancelScope) -> None:
        delay = self._config.retry_delay
        with scope:
            while True:
                begun = trio.current_time()
                try:
                    stream = await self._members.open_stream(peer, LEDGER_PROTOCOL)
                except Unreachable as error:
                    _log.debug("no ledger stream to %s yet: %s", peer, error)
                else:
                    async with stream:
                        await self._talk(stream)
                if trio.current_time() - begun > self._config.retry_delay_max:
                    delay = self._config.retry_delay
                await trio.sleep(delay * self._rng.uniform(0.5, 1.0))
                delay = min(2 * delay, self._config.retry_delay_max)

    async def _talk(self, stream: PeerStream) -> None:
        """Exchange entries over `stream` until it ends. A second stream of one peer replaces the first."""
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        link = _Link(stream.peer, SyncSession(self._ledger.state), frames)
        previous = self._links.get(link.peer)
        if previous is not None:
            previous.scope.cancel()
        self._links[link.peer] = link
        if self._members.me < link.peer:
            link.session.begin_round()
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, link)
                    await self._receive(link)
                    nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            _log.debug("the ledger stream to %s broke", link.peer)
        except* (BadFrame, BadEntry) as errors:
            _log.warning("%s broke the ledger protocol: %s", link.peer, errors.exceptions[0])
            await frames.reset()
        finally:
            link.is_paid.set()
            if self._links.get(link.peer) is link:
                del self._links[link.peer]

    async def _send(self, link: _Link) -> None:
        while True:
            link.has_debts = trio.Event()
            while (message := link.session.next_message()) is not None:
                await link.frames.send(encode_message(message))
            link.is_paid.set()
            await link.has_debts.wait()

    async def _receive(self, link: _Link) -> None:
        while (frame := await link.frames.receive()) is not None:
            received = link.session.handle(decode_message_untrusted(frame))
            for encoded in received.encoded if received is not None else ():
                match self._ledger.receive(encoded):
                    case Applied(entry) if isinstance(received, News) and entry.owner != self._ledger.me:
                        self._push(entry.place, source=link.peer)
                    case Refused(reason):
                        self._note_refusal(link, reason)
            link.has_debts.set()

    def _note_refusal(self, link: _Link, reason: RefusalReason) -> None:
        if reason == "bad_signature":
            raise BadEntry("it passed on an entry that its owner did not sign")
        if reason != "stale" and reason not in link.complaints:
            link.complaints.add(reason)
            _log.warning("refused an entry from %s: %s", link.peer, reason)

    async def _push_own_writes(self) -> None:
        """What others wrote is pushed on by `_receive`, which knows who has it already."""
        with self._ledger.subscribe() as changes:
            async for place in changes:
                if place.owner == self._ledger.me:
                    self._push(place)

    def _push(self, place: Place, source: PeerId | None = None) -> None:
        others = [peer for peer in sorted(self._links) if peer != source]
        for peer in self._rng.sample(others, min(self._config.push_peers, len(others))):
            link = self._links[peer]
            link.session.push(place)
            link.has_debts.set()

    async def _begin_rounds(self) -> None:
        while True:
            # Uneven, so that nodes started together do not stay in step.
            await trio.sleep(self._config.round_interval * self._rng.uniform(0.8, 1.2))
            if self._links:
                link = self._links[self._rng.choice(sorted(self._links))]
                link.session.begin_round()
                link.has_debts.set()
