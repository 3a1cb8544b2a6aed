"""One stream of a yamux session, as a trio stream.

Window: the peer may have `WINDOW_INITIAL` bytes under way to us, and more only once
our reader took some; so what a stream can make us hold is bounded, and a reader that
stops reading stops its sender, and nobody else.

After the peer reset the stream, sending fails at once, while what had arrived before
can still be read: an answer that was complete is not lost to a reset behind it.
"""

from __future__ import annotations

import math
from operator import index
from typing import ClassVar, Protocol

import trio

from p2p import yamux_frames as frames
from p2p.alarm import Alarm
from p2p.errors import BadFrame
from p2p.network import PeerStream
from p2p.peer import PeerId
from p2p.yamux_frames import DATA, FIN, RST, WINDOW_INITIAL, WINDOW_UPDATE

_DATA_SIZE_MAX = 32 * 1024 - 64
"""One DATA frame: two share a Noise message, and other streams get their turn in between."""


class Session(Protocol):
    """What a stream needs of the session that carries it."""

    alarm: Alarm

    @property
    def has_room(self) -> bool: ...
    def send(self, frame: bytes) -> None: ...
    async def wait_for_room(self) -> None: ...
    def wake_senders(self) -> None: ...
    def count_unread(self, size: int) -> None: ...
    def forget(self, stream: YamuxStream) -> None: ...


class YamuxStream(PeerStream):
    """A two-way byte stream. Its session calls the `on_` methods."""

    WINDOW_MAX: ClassVar[int] = 1024 * 1024
    """What a busy stream is granted: at 10 ms round trip still 100 MB/s."""

    def __init__(self, session: Session, stream_id: int, peer: PeerId) -> None:
        self.peer = peer
        self.protocol_id = ""
        self.stream_id = stream_id
        self._session = session
        self._send_window = WINDOW_INITIAL
        self._receive_window = WINDOW_INITIAL
        self._receive_window_wanted = WINDOW_INITIAL
        self._inbox = bytearray()
        self._is_closed = False
        self._is_broken = False
        self._sent_end = False
        self._received_end = False
        self._is_sending = False
        self._is_receiving = False
        self._may_send = trio.lowlevel.ParkingLot()
        self._may_receive = trio.lowlevel.ParkingLot()
        self._wake_receiver = self._may_receive.unpark_all

    @property
    def has_ended(self) -> bool:
        """The peer will send no more."""
        return self._received_end

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            unsent = memoryview(data)
            self._check_can_send()
            while unsent:
                await self._wait_until_sendable()
                size = min(len(unsent), self._send_window, _DATA_SIZE_MAX)
                self._send_window -= size
                self._session.send(frames.encode(DATA, 0, self.stream_id, data=unsent[:size]))
                unsent = unsent[size:]
            # Others get their turn only now, while this is already on its way.
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            self._check_can_send()
            await self._wait_until_sendable()
        finally:
            self._is_sending = False

    async def send_eof(self) -> None:
        self._begin_sending()
        try:
            await trio.lowlevel.checkpoint()
            if self._is_closed:
                raise trio.ClosedResourceError
            self._send_end()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        return await self._receive(max_bytes, math.inf)

    async def receive_until(self, deadline: float, max_bytes: int) -> bytes | bytearray:
        return await self._receive(max_bytes, deadline)

    async def _receive(self, max_bytes: int | None, deadline: float) -> bytes | bytearray:
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._is_receiving = True
        try:
            if self._must_wait_to_receive():
                # That lets others run as well, and whatever ends it has come a moment ago.
                await self._wait_to_receive(deadline)
            else:
                await trio.lowlevel.checkpoint()
            if self._is_closed:
                raise trio.ClosedResourceError
            if self._inbox:
                return self._take(max_bytes)
            if self._received_end:
                return b""
            raise trio.BrokenResourceError
        finally:
            self._is_receiving = False

    def _must_wait_to_receive(self) -> bool:
        return not (self._inbox or self._received_end or self._is_broken or self._is_closed)

    async def _wait_to_receive(self, deadline: float) -> None:
        if deadline < math.inf:
            self._session.alarm.set(self._wake_receiver, deadline)
        try:
            while self._must_wait_to_receive():
                await self._may_receive.park()
                if self._must_wait_to_receive() and trio.current_time() >= deadline:
                    raise trio.TooSlowError
        finally:
            self._session.alarm.clear(self._wake_receiver)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._send_end()
            if self._inbox and not self._is_broken:
                # The peer may be waiting for window that will never come.
                self._session.send(frames.encode(WINDOW_UPDATE, RST, self.stream_id))
            self._close()
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        self.drop()
        await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """What `reset` does; it waits for nothing, so it is safe where a task is being cancelled."""
        if not self._is_closed:
            if not self._is_broken:
                self._session.send(frames.encode(WINDOW_UPDATE, RST, self.stream_id))
            self._close()

    def on_data(self, data: bytes) -> None:
        """`data` arrived.

        Raises:
          BadFrame: it is more than we granted, on this stream or on all, or came after the end.
        """
        if len(data) > self._receive_window or (data and self._received_end):
            raise BadFrame(f"stream {self.stream_id}: data that was not granted")
        self._receive_window -= len(data)
        self._inbox += data
        self._may_receive.unpark_all()
        self._session.count_unread(len(data))

    def on_window(self, size: int) -> None:
        """The peer granted `size` bytes more."""
        self._send_window += size
        self._may_send.unpark_all()

    def on_end(self) -> None:
        """The peer will send no more."""
        self._received_end = True
        self._may_receive.unpark_all()
        self._forget_if_over()

    def on_reset(self) -> None:
        """The peer dropped the stream."""
        self.on_broken()
        self._session.forget(self)

    def on_broken(self) -> None:
        """Nothing can be sent any more."""
        self._is_broken = True
        self._wake_all()

    def _close(self) -> None:
        self._is_closed = True
        self._session.count_unread(-len(self._inbox))
        self._inbox.clear()
        self._wake_all()
        self._session.forget(self)

    def _wake_all(self) -> None:
        self._may_receive.unpark_all()
        self._may_send.unpark_all()
        self._session.wake_senders()  # Ours may be among those that wait for the connection.

    def _send_end(self) -> None:
        if not self._sent_end:
            self._sent_end = True
            if not self._is_broken:
                self._session.send(frames.encode(WINDOW_UPDATE, FIN, self.stream_id))
            self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self._sent_end and self._received_end:
            self._session.forget(self)

    def _take(self, max_bytes: int | None) -> bytearray:
        if max_bytes is None or max_bytes >= len(self._inbox):
            data, self._inbox = self._inbox, bytearray()
        else:
            data = self._inbox[:max_bytes]
            del self._inbox[:max_bytes]
        self._session.count_unread(-len(data))
        self._grant()
        return data

    def _grant(self) -> None:
        """Grant the peer what was read, in halves of a window: an update per read would double the frames."""
        wanted = self._receive_window_wanted
        if self._received_end or self._is_broken:
            return
        if wanted - self._receive_window - len(self._inbox) < wanted // 2:
            return
        # Our reader keeps up, so a larger window buys speed and holds memory only briefly.
        self._receive_window_wanted = wanted = min(2 * wanted, self.WINDOW_MAX)
        size = wanted - self._receive_window - len(self._inbox)
        self._receive_window += size
        self._session.send(frames.encode(WINDOW_UPDATE, 0, self.stream_id, size))

    def _check_can_send(self) -> None:
        if self._is_closed or self._sent_end:
            raise trio.ClosedResourceError
        if self._is_broken:
            raise trio.BrokenResourceError

    async def _wait_until_sendable(self) -> None:
        while not (self._send_window and self._session.has_room):
            if self._send_window:
                await self._session.wait_for_room()
            else:
                await self._may_send.park()
            self._check_can_send()

    def _begin_sending(self) -> None:
        """Whoever calls it sets `_is_sending` back: a context manager takes longer than what is in it."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True
