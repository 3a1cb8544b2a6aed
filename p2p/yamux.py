"""Many streams over one connection: yamux, as its spec has it.

    session.open_stream()  --+                              +--  on_stream(stream)
                             +--- one secured byte stream ---+
    a task that reads      --+                              +--  a task that reads
    a task that writes     --+                              +--  a task that writes

Our own because the library's kills a stream whose reader is slow for five seconds,
polls for window, and leaves the whole connection unusable when a write is cancelled.
Here only the session's own task writes to the connection, so nothing a stream's user
cancels can tear it, and a full window only makes `send_all` wait.

A stream that is closed while the peer still sends is forgotten; what arrives for a
stream we do not know is answered with RST. So a closed stream costs no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import trio

from p2p import yamux_frames as frames
from p2p.alarm import Alarm
from p2p.errors import BadFrame, Unreachable
from p2p.peer import PeerId
from p2p.yamux_frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Frame
from p2p.yamux_stream import YamuxStream

STREAMS_MAX: Final = 1024
"""Open at once before the peer's new ones are refused. A node has tens; more is a leak or an attack.
Ours are refused from twice that, so that a peer cannot use up our share."""

_STREAM_ID_MAX: Final = 2**32 - 1
"""The field's size: 2**31 streams of each end."""
_READ_SIZE: Final = 64 * 1024
"""One read; what is under us hands over one Noise message at a time, and none is larger."""
_BATCH_SIZE_MAX: Final = 65_519
"""Frames written in one go: what one Noise message holds (65,535 bytes with its tag)."""
_UNSENT_SIZE_MAX: Final = 256 * 1024
"""Data waiting for the connection before `send_all` waits too: a few writes ahead, no more."""
_UNSENT_CONTROL_SIZE_MAX: Final = 256 * 1024
"""Answers to the peer (ACK, pings, RST) on top of that: who asks without reading is cut off."""
_UNREAD_SIZE_MAX: Final = 64 * 1024 * 1024
"""What one peer may make us hold, over all its streams: 64 that are as busy as one can be, and do not
read for a moment. A window bounds one stream, and a peer may open a thousand."""


class YamuxSession:
    """One end of a multiplexed connection. `run` is its only owner of tasks."""

    def __init__(
        self,
        transport: trio.abc.Stream,
        peer: PeerId,
        *,
        is_initiator: bool,
        on_stream: Callable[[YamuxStream], None],
    ) -> None:
        self.peer = peer
        self.ended = trio.Event()
        self.alarm = Alarm()
        """For who reads a stream, and not for ever."""
        self._transport = transport
        self._on_stream = on_stream
        self._streams: dict[int, YamuxStream] = {}
        self._own_ids_odd = int(is_initiator)
        self._next_id = 1 if is_initiator else 2
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self._unread_size = 0
        self._has_unsent = trio.lowlevel.ParkingLot()
        self._has_room = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()

    @property
    def stream_count(self) -> int:
        """Streams that are not over in both directions."""
        return len(self._streams)

    def protocols(self) -> Iterator[str]:
        """What each stream is for that the peer has not ended."""
        return (stream.protocol_id for stream in self._streams.values() if not stream.has_ended)

    async def run(self) -> None:
        """Carry the streams until either side closes or the connection breaks.

        Never raises for what a peer or a cable does. However it ends, all streams
        are broken and the transport is closed.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_all)
                    nursery.start_soon(self.alarm.run)
                    await self._read_all()
                    nursery.cancel_scope.cancel()
        finally:
            self.ended.set()
            for stream in list(self._streams.values()):
                stream.on_broken()
            self._streams.clear()
            self._has_room.unpark_all()
            await trio.aclose_forcefully(self._transport)

    async def aclose(self) -> None:
        """Say that we go, let what is unsent leave, and end `run`. Cancelled: it ends at once."""
        self.send(frames.encode(GO_AWAY, 0, 0))
        try:
            # A peer that does not read must not hold us up; one second is many round trips on any LAN.
            with trio.move_on_after(1):
                while self._unsent_size and not self.ended.is_set():
                    await self._has_room.park()
        finally:
            self._scope.cancel()
        await self.ended.wait()

    def open_stream(self) -> YamuxStream:
        """A new stream; the peer learns of it with the first frame.

        Raises:
          Unreachable: the session has ended, or holds as many streams as it may.
        """
        if self.ended.is_set():
            raise Unreachable(f"the connection to {self.peer} is gone")
        if len(self._streams) >= 2 * STREAMS_MAX:
            raise Unreachable(f"{len(self._streams)} streams to {self.peer} are open already")
        if self._next_id > _STREAM_ID_MAX:
            self._scope.cancel()  # Ids are never used twice, so it takes a new connection.
            raise Unreachable(f"the connection to {self.peer} has carried all the streams it can")
        stream = YamuxStream(self, self._next_id, self.peer)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        self.send(frames.encode(WINDOW_UPDATE, SYN, stream.stream_id))
        return stream

    def send(self, frame: bytes) -> None:
        """Put `frame` in line for the connection. Data must have waited for `wait_for_room`."""
        if self.ended.is_set():
            return
        self._unsent.append(frame)
        self._unsent_size += len(frame)
        if self._unsent_size > _UNSENT_SIZE_MAX + _UNSENT_CONTROL_SIZE_MAX:
            self._scope.cancel()
        self._has_unsent.unpark_all()

    @property
    def has_room(self) -> bool:
        """Data may be sent now."""
        return self._unsent_size < _UNSENT_SIZE_MAX

    async def wait_for_room(self) -> None:
        """Return when it is worth looking again: there is room, or a stream or the session ended."""
        if not self.ended.is_set():
            await self._has_room.park()

    def wake_senders(self) -> None:
        """Let those who wait for room look again."""
        self._has_room.unpark_all()

    def count_unread(self, size: int) -> None:
        """`size` bytes more wait to be read, or fewer if it is negative.

        Raises:
          BadFrame: they are more than a peer may make us hold.
        """
        self._unread_size += size
        if size > 0 and self._unread_size > _UNREAD_SIZE_MAX:
            raise BadFrame(f"{self._unread_size} bytes that nobody reads")

    def forget(self, stream: YamuxStream) -> None:
        """`stream` is over in both directions."""
        self._streams.pop(stream.stream_id, None)

    async def _write_all(self) -> None:
        try:
            while True:
                while not self._unsent:
                    await self._has_unsent.park()
                batch = self._take_batch()
                await self._transport.send_all(batch)
                self._unsent_size -= len(batch)
                self._has_room.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._scope.cancel()

    def _take_batch(self) -> bytes:
        batch = [self._unsent.popleft()]
        size = len(batch[0])
        while self._unsent and size + len(self._unsent[0]) <= _BATCH_SIZE_MAX:
            batch.append(self._unsent.popleft())
            size += len(batch[-1])
        return b"".join(batch)

    async def _read_all(self) -> None:
        parser = frames.FrameParser(YamuxStream.WINDOW_MAX)
        try:
            while data := await self._transport.receive_some(_READ_SIZE):
                for frame in parser.feed_untrusted(data):
                    if frame.type == GO_AWAY:
                        return
                    self._on_frame(frame)
        except (BadFrame, trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def _on_frame(self, frame: Frame) -> None:
        if frame.type == PING:
            if frame.flags & SYN:
                self.send(frames.encode(PING, ACK, 0, frame.length))
            return
        if frame.flags & SYN:
            self._on_opened(frame.stream_id)
        stream = self._streams.get(frame.stream_id)
        if stream is None:
            if frame.type == DATA and frame.data:
                self.send(frames.encode(WINDOW_UPDATE, RST, frame.stream_id))
            return
        if frame.type == DATA:
            stream.on_data(frame.data)
        else:
            stream.on_window(frame.length)
        if frame.flags & FIN:
            stream.on_end()
        if frame.flags & RST:
            stream.on_reset()

    def _on_opened(self, stream_id: int) -> None:
        if stream_id % 2 == self._own_ids_odd or stream_id == 0 or stream_id in self._streams:
            raise BadFrame(f"stream {stream_id} is not the peer's to open")
        if len(self._streams) >= STREAMS_MAX:
            self.send(frames.encode(WINDOW_UPDATE, RST, stream_id))
            return
        stream = self._streams[stream_id] = YamuxStream(self, stream_id, self.peer)
        self.send(frames.encode(WINDOW_UPDATE, ACK, stream_id))
        self._on_stream(stream)
