"""A stream of frames: `framing.py` carried out on a trio stream.

    async with FrameStream(stream, size_max=64 * 1024) as frames:
        await frames.send({"kind": "hello"})
        reply = await frames.receive()      # None once the peer has ended

Several tasks may send: frames never mix. One task receives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from p2p.framing import FrameDecoder, encode_frame
from p2p.network import PeerStream

_READ_SIZE_MAX = 64 * 1024
"""One read; larger ones gain nothing, a frame may take several."""


class FrameStream(trio.abc.AsyncResource):
    """Messages over `stream`, which it then owns."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, size_max: int) -> None:
        self.stream = stream
        self._size_max = size_max
        self._decoder = FrameDecoder(size_max)
        self._decoded: deque[dict[str, Any]] = deque()
        self._sending = trio.Lock()
        self._is_torn = False

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message, and wait for room. Cancelled: the stream can only be closed.

        Raises:
          FrameTooLarge: nothing was sent; the stream is as it was.
          trio.BrokenResourceError: the stream broke, or a cancelled `send` left half a frame on it.
          trio.ClosedResourceError: we closed it.
        """
        await self.send_frame(encode_frame(message, self._size_max))

    async def send_frame(self, frame: bytes) -> None:
        """Send a message that `encode_frame` made one frame of already; else as `send`."""
        try:
            # Mostly nobody else is sending, and the stream lets other tasks run anyway.
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            if self._is_torn:
                raise trio.BrokenResourceError("half a frame was sent before")
            self._is_torn = True
            await self.stream.send_all(frame)
            self._is_torn = False
        finally:
            self._sending.release()

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the peer ended its side. Cancelled: nothing is lost.

        Raises:
          BadFrame: the peer broke the protocol; close the stream.
          trio.BrokenResourceError: the stream was reset or its connection died.
          trio.ClosedResourceError: we closed it.
        """
        if self._decoded:
            # A peer that has many messages waiting must not keep every other task from running.
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._decoded:
            if not self._decode(await self.stream.receive_some(_READ_SIZE_MAX)):
                return None
        return self._decoded.popleft()

    async def receive_until(self, deadline: float) -> dict[str, Any] | None:
        """The same from a peer, which has time until `deadline`.

        Raises: as `receive`, and:
          trio.TooSlowError: it sent no whole message. Nothing is lost.
        """
        assert isinstance(self.stream, PeerStream)
        if self._decoded:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._decoded:
            if not self._decode(await self.stream.receive_until(deadline, _READ_SIZE_MAX)):
                return None
        return self._decoded.popleft()

    def _decode(self, data: bytes | bytearray) -> bool:
        """Whether that is not the end."""
        if not data:
            self._decoder.finish()
            return False
        self._decoded.extend(self._decoder.feed_untrusted(data))
        return True

    async def send_eof(self) -> None:
        """End our side; the peer's `receive` returns None after what was sent before."""
        async with self._sending:
            await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def reset(self) -> None:
        """Drop the stream at once, in both directions."""
        if isinstance(self.stream, PeerStream):
            await self.stream.reset()
        else:
            await trio.aclose_forcefully(self.stream)
