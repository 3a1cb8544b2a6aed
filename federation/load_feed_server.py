"""The peer's side of `load_feed.py`: tells fronts how busy we are, and offers them slots.

One task per stream writes; another reads what the front waits for. A change marks each front as
to be told, and its writer tells it what differs from what it was told last, as soon as the
interval allows. So a front that reads slowly gets the newest and no backlog.
"""

from __future__ import annotations

import logging
import math
from collections import deque

import trio

from federation.gated_backend import GatedBackend
from federation.load_feed import (
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    PUSH_INTERVAL,
    LoadsTold,
    Offered,
    decode_from_front_untrusted,
    encode,
    messages_allowed,
)
from ledger.probe import Loads
from ledger.records import ModelName
from p2p.errors import BadFrame
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_OFFERS_MAX = 64
"""Offers that wait for one front to read: each is worth half a second, so these are long void."""


class LoadFeedServer:
    """Tells the fronts that ask what happens at the gate of `backend`, whose listener it is."""

    def __init__(self, backend: GatedBackend) -> None:
        self._backend = backend
        self._fronts: dict[PeerId, _Front] = {}
        backend.on_change = self.note_change

    def attach(self, streams: Streams) -> None:
        """Answer load streams from now on."""
        streams.on_stream(PROTOCOL_ID, self.serve)

    def note_change(self) -> None:
        """Our loads may have changed."""
        for front in self._fronts.values():
            front.note_change()

    async def serve(self, stream: PeerStream) -> None:
        """Tell the front on `stream` until it ends it, or opens another one."""
        peer = stream.peer
        if (former := self._fronts.get(peer)) is not None:
            former.scope.cancel()
            # It says anew what it waits for, and not of what it does no more.
            self._backend.lose(peer)
        front = self._fronts[peer] = _Front(self._backend)
        self._backend.meet(peer, front.offer)
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        try:
            with front.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(front.write, frames)
                    await self._read(peer, frames)
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the load stream of %s broke", peer)
        except* BadFrame as errors:
            logger.warning("peer %s broke the load protocol: %s", peer, errors.exceptions[0])
            await stream.reset()
        finally:
            if self._fronts.get(peer) is front:
                del self._fronts[peer]
                self._backend.lose(peer)

    async def _read(self, peer: PeerId, frames: FrameStream) -> None:
        allowed = messages_allowed()
        while (values := await frames.receive()) is not None:
            allowed.spend(1, trio.current_time())
            if allowed.is_spent:
                await trio.sleep_until(allowed.next_at)
            told = decode_from_front_untrusted(values)
            self._backend.wait(peer, told.model, told.wanted)


class _Front:
    """One front that listens."""

    def __init__(self, backend: GatedBackend) -> None:
        self.scope = trio.CancelScope()
        self._backend = backend
        self._told: Loads = {}
        self._has_news = True
        self._offers: deque[ModelName] = deque(maxlen=_OFFERS_MAX)
        self._woken = trio.Event()

    def note_change(self) -> None:
        self._has_news = True
        self._woken.set()

    def offer(self, model: ModelName) -> None:
        self._offers.append(model)
        self._woken.set()

    async def write(self, frames: FrameStream) -> None:
        """Send offers at once, and what changed at most once in an interval."""
        may_push_at = -math.inf
        while True:
            self._woken = trio.Event()
            while self._offers:
                await frames.send(encode(Offered(self._offers.popleft())))
            if self._has_news and trio.current_time() >= may_push_at:
                self._has_news = False
                may_push_at = trio.current_time() + PUSH_INTERVAL
                if changed := self._changed():
                    await frames.send(encode(LoadsTold(changed)))
            with trio.move_on_at(may_push_at if self._has_news else math.inf):
                await self._woken.wait()

    def _changed(self) -> Loads:
        loads = self._backend.loads()
        changed = {model: load for model, load in loads.items() if self._told.get(model) != load}
        self._told = dict(loads)
        return changed
