"""Yamux frames: what travels between two ends of a multiplexed connection.

    | version 1 | type 1 | flags 2 | stream id 4 | length 4 |  then, for DATA, `length` bytes

All numbers big-endian. What `length` means depends on the type: bytes that follow,
bytes of window granted, a ping's value, or the reason to go away.
Source: the yamux spec, github.com/hashicorp/yamux/blob/master/spec.md

Pure: bytes in, frames out.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from p2p.errors import BadFrame

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
"""Opens the stream."""
ACK: Final = 2
"""Answers SYN, or a ping."""
FIN: Final = 4
"""The sender will send no more data on the stream."""
RST: Final = 8
"""The stream is over in both directions, at once."""

WINDOW_INITIAL: Final = 256 * 1024
"""Bytes either side may send on a new stream before it is granted more. Fixed by the spec."""

_HEADER = struct.Struct("!BBHII")


class Frame(NamedTuple):
    """One frame. `data` is empty for all types but DATA, where `length` is its length."""

    type: int
    flags: int
    stream_id: int
    length: int
    data: bytes


def encode(
    frame_type: int, flags: int, stream_id: int, length: int = 0, data: bytes | memoryview = b""
) -> bytes:
    """A frame's bytes; for DATA, the length is that of `data`."""
    if frame_type == DATA:
        length = len(data)
    return b"".join((_HEADER.pack(0, frame_type, flags, stream_id, length), data))


class FrameParser:
    """Turns bytes, cut anywhere, back into frames."""

    def __init__(self, data_size_max: int) -> None:
        self._data_size_max = data_size_max
        self._unread = bytearray()

    def feed_untrusted(self, data: bytes | bytearray) -> list[Frame]:
        """The frames that `data` completes, in order.

        Raises:
          BadFrame: not yamux, or more data in one frame than we ever grant.
        """
        self._unread += data
        unread = self._unread
        frames = []
        start = 0
        while len(unread) - start >= _HEADER.size:
            version, frame_type, flags, stream_id, length = _HEADER.unpack_from(unread, start)
            if version != 0 or frame_type > GO_AWAY:
                raise BadFrame(f"not a yamux frame: version {version}, type {frame_type}")
            body_start = start + _HEADER.size
            body_size = length if frame_type == DATA else 0
            if body_size > self._data_size_max:
                raise BadFrame(f"a yamux frame of {body_size} bytes, more than was granted")
            if len(unread) - body_start < body_size:
                break
            start = body_start + body_size
            with memoryview(unread) as view:
                frames.append(Frame(frame_type, flags, stream_id, length, bytes(view[body_start:start])))
        del unread[:start]
        return frames
