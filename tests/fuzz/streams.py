"""Decoders that take pieces: what comes out must not depend on where the bytes were cut."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

import trio

from p2p import hello, multistream, yamux_frames
from p2p.errors import BadFrame, ProtocolNotSpoken
from p2p.framing import FrameDecoder, encode_frame

T = TypeVar("T")

FRAME_SIZE_MAX = 64 * 1024


def _in_pieces(data: bytes, feed: Callable[[bytes], list[T]]) -> list[T]:
    """What comes out when `data` comes byte by byte, or, where it is long, cut in a few uneven pieces."""
    size = 1 if len(data) < 200 else 1 + len(data) // 7
    return [each for start in range(0, len(data), size) for each in feed(data[start : start + size])]


def _both_ways(data: bytes, whole: Callable[[bytes], list[T]], pieces: Callable[[bytes], list[T]]) -> list[T]:
    """What comes out, which must not depend on where `data` was cut.

    Raises:
      BadFrame: both ways.
    """
    try:
        messages = whole(data)
    except BadFrame:
        messages = None
    try:
        others = _in_pieces(data, pieces)
    except BadFrame:
        assert messages is None, "refused in pieces, taken whole"
        raise
    # By their text, in which not a number is equal to itself.
    assert repr(messages) == repr(others), "another message in pieces than whole"
    return others


def decode_frames(data: bytes) -> list[dict[str, Any]]:
    whole, pieces = FrameDecoder(FRAME_SIZE_MAX), FrameDecoder(FRAME_SIZE_MAX)
    messages = _both_ways(data, whole.feed_untrusted, pieces.feed_untrusted)
    pieces.finish()
    return messages


def encode_frames(messages: list[dict[str, Any]]) -> bytes | None:
    return b"".join(encode_frame(message, 2 * FRAME_SIZE_MAX) for message in messages)


def decode_yamux(data: bytes) -> list[yamux_frames.Frame]:
    size_max = yamux_frames.WINDOW_INITIAL
    whole, pieces = yamux_frames.FrameParser(size_max), yamux_frames.FrameParser(size_max)
    frames = _both_ways(data, whole.feed_untrusted, pieces.feed_untrusted)
    assert data.startswith(encode_yamux(frames)), "not what was there"
    return frames


def encode_yamux(frames: list[yamux_frames.Frame]) -> bytes:
    return b"".join(yamux_frames.encode(*frame) for frame in frames)


class _Said(trio.abc.Stream):
    """A stream on which the peer has said all it will say. Its pieces are of any size, and nothing waits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._rng = Random(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        pass

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = self._rng.randint(1, max_bytes or 1)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    async def aclose(self) -> None:
        pass


def _without_a_loop(call: Coroutine[Any, Any, T]) -> T:
    """What `call`, which waits for nothing, returns."""
    try:
        call.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits")


def answer_multistream(data: bytes) -> str:
    return _without_a_loop(multistream.answer(_Said(data), {hello.PROTOCOL_ID}))


def propose_multistream(data: bytes) -> str:
    try:
        _without_a_loop(multistream.propose(_Said(data), hello.PROTOCOL_ID))
    except ProtocolNotSpoken:
        return "not spoken"
    return "spoken"


def multistream_line(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode() + b"\n"
