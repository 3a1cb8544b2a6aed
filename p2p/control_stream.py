"""One open `hello` stream: the messages of `hello.py` carried over frames.

A writer task sends what was posted, a reader hands on what comes. Posting never
waits: a peer that stops reading is cut off instead of being waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from p2p.errors import BadFrame, FrameTooLarge
from p2p.frame_stream import FrameStream
from p2p.hello import FRAME_SIZE_MAX, Message, from_wire_untrusted, to_wire
from p2p.network import PeerStream

logger = logging.getLogger(__name__)

_UNSENT_MAX = 64
"""Messages. The most at once are the addresses of all members, 32 peers each."""


@dataclass(eq=False)
class ControlStream:
    """A control stream, to be `run` by one task."""

    stream: PeerStream
    ended: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self._frames = FrameStream(self.stream, FRAME_SIZE_MAX)
        self._to_send, self._unsent = trio.open_memory_channel[Message](_UNSENT_MAX)
        self._scope = trio.CancelScope()

    def post(self, message: Message) -> None:
        """Send `message` after those before it."""
        try:
            self._to_send.send_nowait(message)
        except trio.WouldBlock:
            self.drop()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # It has ended, and whoever runs it says so.

    def drop(self) -> None:
        """End now, with whatever is unsent."""
        self._scope.cancel()

    async def run(self, on_message: Callable[[Message], None], on_broken_rule: Callable[[str], None]) -> None:
        """Carry messages until the stream ends. Cancelled, or dropped: it is reset.

        A peer that breaks a rule is reported once, and not listened to any more; it can still be told
        why before the stream is dropped.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read(on_message, on_broken_rule)
                    nursery.cancel_scope.cancel()
        finally:
            self._unsent.close()
            self.ended.set()
            # It waits for nothing; the bound is for a stream that breaks its word.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await self._frames.reset()

    async def _read(
        self, on_message: Callable[[Message], None], on_broken_rule: Callable[[str], None]
    ) -> None:
        try:
            try:
                while (frame := await self._frames.receive()) is not None:
                    on_message(from_wire_untrusted(frame))
            except BadFrame as error:
                on_broken_rule(str(error))
                while await self.stream.receive_some():
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The peer, or its connection, is gone: the same as its end.

    async def _write(self) -> None:
        try:
            async for message in self._unsent:
                await self._frames.send(to_wire(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The reader sees it too.
        except FrameTooLarge:
            # What one peer is told must never cost the others theirs: this stream ends, and no more.
            logger.exception("a message to %s cannot be sent", self.stream.peer)
            self.drop()
