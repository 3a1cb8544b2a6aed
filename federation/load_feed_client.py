"""The front's side of `load_feed.py`: hears how busy the peers are that it uses, and what they offer.

A stream to each peer that was used in the last minute, or that is waited for. Where there can be
none, the loads on probes and answers have to do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from federation.load_feed import (
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    LoadsTold,
    Offered,
    WaitingTold,
    decode_from_peer_untrusted,
    encode,
    messages_allowed,
)
from ledger.probe import Loads
from ledger.records import ModelName
from p2p.errors import BadFrame, ProtocolNotSpoken, Unreachable
from p2p.frame_stream import FrameStream
from p2p.network import Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

USED_FOR = 60.0
"""Seconds after its last use that a peer is listened to: design."""

_RETRY_DELAY = 5.0
"""Seconds until a stream that broke, or that the peer would not have, is opened again."""

_FEEDS_MAX = 64
"""Peers listened to at once: twice the links of a node. Of others the probes tell."""


def _ignore_offer(peer: PeerId, model: ModelName) -> None:
    del peer, model


class LoadFeeds:
    """What the peers we use say of their loads. One task `run`s it."""

    def __init__(self, streams: Streams, on_loads: Callable[[PeerId, Loads], None]) -> None:
        """`on_loads` must not raise."""
        self.on_offer: Callable[[PeerId, ModelName], None] = _ignore_offer
        """Called when a peer holds a slot for us. It must not raise."""
        self._streams = streams
        self._on_loads = on_loads
        self._feeds: dict[PeerId, _Feed] = {}
        self._nursery: trio.Nursery | None = None

    def note_use(self, peer: PeerId) -> None:
        """We have something to do with `peer`: listen to it for a while."""
        if self._nursery is None or (peer not in self._feeds and len(self._feeds) >= _FEEDS_MAX):
            return
        if peer not in self._feeds:
            self._feeds[peer] = _Feed(peer)
            self._nursery.start_soon(self._listen, self._feeds[peer])
        self._feeds[peer].used_at = trio.current_time()

    def tell_waiting(self, peer: PeerId, model: ModelName, wanted: int) -> None:
        """So many of our requests wait for a slot of `model`, and `peer` may have one."""
        if wanted:
            self.note_use(peer)
        if (feed := self._feeds.get(peer)) is not None:
            feed.tell_waiting(model, wanted)

    async def run(self) -> None:
        """Listen until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _listen(self, feed: _Feed) -> None:
        try:
            while feed.is_used():
                try:
                    await self._converse(feed)
                except ProtocolNotSpoken:
                    logger.debug("%s tells no loads but on its probes", feed.peer)
                except Unreachable as error:
                    logger.debug("no load stream to %s: %s", feed.peer, error)
                if feed.is_used():
                    await trio.sleep(_RETRY_DELAY)
        finally:
            del self._feeds[feed.peer]

    async def _converse(self, feed: _Feed) -> None:
        """On one stream, until the peer has been of no use for a while."""
        async with FrameStream(
            await self._streams.open_stream(feed.peer, PROTOCOL_ID), FRAME_SIZE_MAX
        ) as frames:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, feed, frames, nursery.cancel_scope)
                    await feed.write(frames)
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                logger.debug("the load stream to %s broke", feed.peer)
            except* BadFrame as errors:
                logger.warning("peer %s broke the load protocol: %s", feed.peer, errors.exceptions[0])

    async def _read(self, feed: _Feed, frames: FrameStream, conversation: trio.CancelScope) -> None:
        allowed = messages_allowed()
        while (values := await frames.receive()) is not None:
            allowed.spend(1, trio.current_time())
            if allowed.is_spent:
                await trio.sleep_until(allowed.next_at)
            match decode_from_peer_untrusted(values):
                case LoadsTold(loads):
                    self._on_loads(feed.peer, loads)
                case Offered(model):
                    self.on_offer(feed.peer, model)
        conversation.cancel()


@dataclass(eq=False, slots=True)
class _Feed:
    """What there is to hear from one peer, and to tell it."""

    peer: PeerId
    used_at: float = 0.0
    waiting: dict[ModelName, int] = field(default_factory=dict)
    """Requests, per model; none where nobody waits."""
    _untold: dict[ModelName, int] = field(default_factory=dict)
    _woken: trio.Event = field(default_factory=trio.Event)

    def is_used(self) -> bool:
        return bool(self.waiting) or trio.current_time() < self.used_at + USED_FOR

    def tell_waiting(self, model: ModelName, wanted: int) -> None:
        if wanted:
            self.waiting[model] = wanted
        elif self.waiting.pop(model, None) is None:
            return
        else:
            # Not used since, but waited for.
            self.used_at = trio.current_time()
        self._untold[model] = wanted
        self._woken.set()

    async def write(self, frames: FrameStream) -> None:
        """Tell what we wait for whenever that changes, until the peer is of no use."""
        self._untold = dict(self.waiting)
        while self.is_used():
            self._woken = trio.Event()
            while self._untold:
                await frames.send(encode(WaitingTold(*self._untold.popitem())))
            with trio.move_on_at(
                self.used_at + USED_FOR if not self.waiting else trio.current_time() + USED_FOR
            ):
                await self._woken.wait()
