"""Frames: how every protocol of ours cuts a byte stream into messages.

    +----------------------+---------------------+
    | length, 4 bytes, big | one msgpack map     |
    +----------------------+---------------------+

Each protocol states the largest frame it allows; the length is checked before a
byte of the body is kept, so a peer cannot make us reserve what it only announces.
Keys a reader does not know are its own to ignore: that is how messages grow.

Pure: bytes in, messages out. `frame_stream.py` puts it on a stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgpack

from p2p.errors import BadFrame, FrameTooLarge, NotMsgpack
from p2p.unpack import unpack_untrusted

_LENGTH_BYTES = 4
_packer = msgpack.Packer()
"""One for all: each takes a megabyte, which a large message would have the system find anew every time."""


def encode_frame(message: Mapping[str, Any], size_max: int) -> bytes:
    """`message` as one frame.

    Raises:
      FrameTooLarge: its body would be longer than `size_max` bytes, so the peer would refuse it.
    """
    body: bytes = _packer.pack(dict(message))
    if len(body) > size_max:
        raise FrameTooLarge(f"a frame of {len(body)} bytes, {size_max} are allowed")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameDecoder:
    """Turns bytes, cut anywhere, back into messages.

    After `BadFrame` there is no way to find the next frame: close the stream.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._unread = bytearray()

    def feed_untrusted(self, data: bytes | bytearray) -> list[dict[str, Any]]:
        """The messages that `data` completes, in order.

        Raises:
          BadFrame: a frame is too long, or is not one msgpack map with text keys.
        """
        unread = self._unread
        unread += data
        messages = []
        began = 0
        while (body := began + _LENGTH_BYTES) <= len(unread):
            length = int.from_bytes(unread[began:body], "big")
            if length > self._size_max:
                raise BadFrame(f"a frame of {length} bytes was announced, {self._size_max} are allowed")
            if body + length > len(unread):
                break
            began = body + length
            # Views: what is in a frame may be large, and unpacking copies it anyway.
            with memoryview(unread) as view, view[body:began] as packed:
                messages.append(_decode_untrusted(packed))
        del unread[:began]
        return messages

    def finish(self) -> None:
        """Say that the stream has ended.

        Raises:
          BadFrame: it stopped inside a frame.
        """
        if self._unread:
            raise BadFrame(f"the stream ended {len(self._unread)} bytes into a frame")


def _decode_untrusted(body: memoryview) -> dict[str, Any]:
    try:
        # None of our messages has a use for extensions.
        message = unpack_untrusted(body, ext_hook=_refuse_extension)
    except NotMsgpack as error:
        raise BadFrame("a frame that is not msgpack") from error
    if not isinstance(message, dict) or not set(map(type, message)) <= {str}:
        raise BadFrame("a frame that is not a map with text keys")
    return message


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise BadFrame(f"a frame with a msgpack extension ({code}, {len(data)} bytes)")
