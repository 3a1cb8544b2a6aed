"""Keeps our ledger equal to everybody's: `spread.py` carried out between members.

On a standing stream to each peer, a reader feeds the core, and a writer sends what the
core has for that peer as the stream takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from random import Random

import trio

from ledger.errors import BadEntry
from ledger.ledger import Ledger
from ledger.spread import (
    Complaint,
    CutOff,
    Event,
    LastWordSaid,
    LinkLost,
    LinkOpened,
    MessageReceived,
    SendDue,
    Spread,
    TimerFired,
    Wrote,
)
from ledger.standing_streams import Members, StandingStreams
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    LEDGER_PROTOCOL,
    Entries,
    Message,
    News,
    decode_message_untrusted,
    encode_message,
)
from p2p.frame_stream import FrameStream
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_ENTRIES_AT_ONCE = 64
"""Entries taken in before other tasks run: 10 ms for their signatures. A liar's frame may hold a thousand."""


class _Link:
    """The standing stream to one peer."""

    def __init__(self) -> None:
        self.has_debts = trio.Event()
        self.is_last_word_due = False
        """Our side ends as soon as no news is left to send."""
        self.ended = trio.Event()


class Replicator:
    """Spreads `ledger` among `members`. Answers from the moment it is made, begins with `run`."""

    def __init__(
        self, members: Members, ledger: Ledger, is_doubtful: Callable[[PeerId], bool], rng: Random
    ) -> None:
        """`is_doubtful`: whether a peer is suspect, or believed offline."""
        self._ledger = ledger
        self._spread = Spread(ledger, is_doubtful, rng)
        self._links: dict[PeerId, _Link] = {}
        self._streams = StandingStreams(members, LEDGER_PROTOCOL, FRAME_SIZE_MAX, self._talk, rng)

    async def run(self) -> None:
        """Spread until cancelled, or until the swarm ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_own_writes)
            nursery.start_soon(self._keep_time)
            await self._streams.run()
            nursery.cancel_scope.cancel()

    async def say_last_word(self, key: str) -> None:
        """Send what stands at our `key` to every peer, and wait until each has taken it in, or is gone.

        Our side of every stream ends after it, and a peer that has read so far ends its own: that
        it was sent would not do, because a goodbye on another stream may overtake it. A peer that
        reads nothing is waited for, so the caller brings the timeout. Cancelled: our sides end all the same.
        """
        links = list(self._links.values())
        for link in links:
            link.is_last_word_due = True
        self._handle(LastWordSaid(key))
        for link in links:
            await link.ended.wait()

    def _handle(self, event: Event) -> None:
        for effect in self._spread.handle(event, trio.current_time()):
            match effect:
                case SendDue(peer) if peer in self._links:
                    self._links[peer].has_debts.set()
                case Complaint(peer, refused):
                    logger.warning("refused what %s sent: %s", peer, refused.reason)
                    self._ledger.note_refusal(refused, peer)
                case CutOff(peer, why):
                    raise BadEntry(why)

    async def _talk(self, peer: PeerId, frames: FrameStream) -> None:
        """Exchange entries until the frames end."""
        link = self._links[peer] = _Link()
        self._handle(LinkOpened(peer))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, peer, link, frames)
                await self._receive(peer, frames)
                nursery.cancel_scope.cancel()
        finally:
            link.ended.set()
            if self._links.get(peer) is link:
                del self._links[peer]
                self._handle(LinkLost(peer))

    async def _send(self, peer: PeerId, link: _Link, frames: FrameStream) -> None:
        while True:
            link.has_debts = trio.Event()
            while (message := self._spread.next_message(peer, trio.current_time())) is not None:
                await frames.send(encode_message(message))
                if link.is_last_word_due and not self._spread.owes_news(peer):
                    break
            if link.is_last_word_due:
                await frames.send_eof()
                return
            await link.has_debts.wait()

    async def _receive(self, peer: PeerId, frames: FrameStream) -> None:
        while (frame := await frames.receive()) is not None:
            for message in _in_parts(decode_message_untrusted(frame)):
                await trio.lowlevel.checkpoint()
                self._handle(MessageReceived(peer, message))

    async def _follow_own_writes(self) -> None:
        """What others wrote is pushed on by the core, which knows who has it already."""
        with self._ledger.subscribe(own_writes=True) as changes:
            async for place in changes:
                self._handle(Wrote(place))

    async def _keep_time(self) -> None:
        while True:
            self._handle(TimerFired())
            await trio.sleep_until(self._spread.wake_at)


def _in_parts(message: Message) -> Iterator[Message]:
    """`message`, in parts that are worked through quickly."""
    if not isinstance(message, Entries | News):
        yield message
        return
    for start in range(0, len(message.encoded), _ENTRIES_AT_ONCE):
        yield type(message)(message.encoded[start : start + _ENTRIES_AT_ONCE])
