"""Keeps our ledger equal to everybody's: `sync.py` carried out between members.

On the standing stream to each peer go

    a round       when it opens, and once a second with one random peer: all that
                  either lacks, which is everything for a newcomer and usually nothing
    news          of a write, to a few random peers, who pass it on if it is new to them
"""

from __future__ import annotations

import logging
from random import Random

import trio

from ledger.entry import Place
from ledger.errors import BadEntry
from ledger.ledger import Ledger
from ledger.revision import Revision
from ledger.standing_streams import Members, StandingStreams
from ledger.state import Applied, RefusalReason, Refused
from ledger.sync import SyncSession
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    LEDGER_PROTOCOL,
    News,
    decode_message_untrusted,
    encode_message,
)
from p2p.frame_stream import FrameStream
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

PUSH_PEERS = 6
"""Who gets a new entry at once. In a swarm of seven that is everybody; in a larger one each passes
it on to six more, which leaves out one in e**6 = 400, and a round finds that one."""
ROUND_INTERVAL = 1.0
"""Seconds between two rounds that we begin; a round between equals is one frame of 40 bytes."""


class _Link:
    """The standing stream to one peer."""

    def __init__(self, peer: PeerId, session: SyncSession) -> None:
        self.peer = peer
        self.session = session
        self.has_debts = trio.Event()
        self.news_sent = Revision()
        """Rises when no news is left to send, and when the stream ends."""
        self.complaints: set[RefusalReason] = set()

    def push(self, place: Place) -> None:
        self.session.push(place)
        self.has_debts.set()

    def begin_round(self) -> None:
        self.session.begin_round()
        self.has_debts.set()


class Replicator:
    """Spreads `ledger` among `members`. Answers from the moment it is made, begins with `run`."""

    def __init__(self, members: Members, ledger: Ledger, rng: Random) -> None:
        self._ledger = ledger
        self._rng = rng
        self._links: dict[PeerId, _Link] = {}
        self._streams = StandingStreams(members, LEDGER_PROTOCOL, FRAME_SIZE_MAX, self._talk, rng)

    async def run(self) -> None:
        """Spread until cancelled, or until the swarm ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push_own_writes)
            nursery.start_soon(self._begin_rounds)
            await self._streams.run()
            nursery.cancel_scope.cancel()

    async def spread(self, key: str) -> None:
        """Send what stands at our `key` to every peer, and wait until it is on its way to all.

        For last words: what is pushed otherwise may be cut off by a goodbye. A peer that reads
        nothing is waited for, so the caller brings the timeout. Cancelled: it goes on.
        """
        place = Place(self._ledger.me, key)
        if self._ledger.state.get(*place) is None:
            return
        waits = [(link.news_sent, link.news_sent.number) for link in self._links.values()]
        for link in self._links.values():
            link.push(place)
        for news_sent, number in waits:
            await news_sent.after(number)

    async def _talk(self, peer: PeerId, frames: FrameStream) -> None:
        """Exchange entries until the frames end."""
        link = self._links[peer] = _Link(peer, SyncSession(self._ledger.state))
        if self._ledger.me < peer:
            link.begin_round()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, link, frames)
                await self._receive(link, frames)
                nursery.cancel_scope.cancel()
        finally:
            link.news_sent.rise()
            if self._links.get(peer) is link:
                del self._links[peer]

    async def _send(self, link: _Link, frames: FrameStream) -> None:
        while True:
            link.has_debts = trio.Event()
            while (message := link.session.next_message()) is not None:
                await frames.send(encode_message(message))
                if not link.session.owes_news:
                    link.news_sent.rise()
            await link.has_debts.wait()

    async def _receive(self, link: _Link, frames: FrameStream) -> None:
        while (frame := await frames.receive()) is not None:
            received = link.session.handle(decode_message_untrusted(frame))
            for encoded in received.encoded if received is not None else ():
                # A liar's frame may hold two thousand signatures: others run in between.
                await trio.lowlevel.checkpoint()
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
            logger.warning("refused an entry from %s: %s", link.peer, reason)

    async def _push_own_writes(self) -> None:
        """What others wrote is pushed on by `_receive`, which knows who has it already."""
        with self._ledger.subscribe() as changes:
            async for place in changes:
                if place.owner == self._ledger.me:
                    self._push(place)

    def _push(self, place: Place, source: PeerId | None = None) -> None:
        others = [peer for peer in sorted(self._links) if peer != source]
        for peer in self._rng.sample(others, min(PUSH_PEERS, len(others))):
            self._links[peer].push(place)

    async def _begin_rounds(self) -> None:
        while True:
            # Uneven, so that nodes started together do not stay in step.
            await trio.sleep(ROUND_INTERVAL * self._rng.uniform(0.8, 1.2))
            if self._links:
                self._links[self._rng.choice(sorted(self._links))].begin_round()
