"""Frames: what comes out is what went in, and nonsense raises one error only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import BadFrame, FrameTooLarge
from p2p.frame_stream import FrameStream
from p2p.framing import FrameDecoder, encode_frame
from tests.mock_time import run

SIZE_MAX = 4096

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
messages = st.dictionaries(st.text(max_size=8), values, max_size=4)


def encode_all(sent: list[dict[str, Any]]) -> bytes:
    return b"".join(encode_frame(message, 2**20) for message in sent)


def decode_cut(data: bytes, cut: int) -> list[dict[str, Any]]:
    decoder = FrameDecoder(2**20)
    decoded = []
    for start in range(0, len(data), cut):
        decoded += decoder.feed_untrusted(data[start : start + cut])
    decoder.finish()
    return decoded


@given(sent=st.lists(messages, max_size=4), cut=st.integers(1, 300))
def test_messages_arrive_however_the_bytes_are_cut(sent: list[dict[str, Any]], cut: int) -> None:
    assert decode_cut(encode_all(sent), cut) == sent


def test_messages_arrive_byte_by_byte_and_all_at_once() -> None:
    sent: list[dict[str, Any]] = [{"kind": "a", "data": bytes(300)}, {}, {"kind": "b"}]
    data = encode_all(sent)
    assert decode_cut(data, 1) == decode_cut(data, len(data)) == sent


def test_what_follows_a_frame_waits_for_its_rest() -> None:
    decoder = FrameDecoder(SIZE_MAX)
    data = encode_all([{"n": 1}, {"n": 2}])
    assert decoder.feed_untrusted(data[:-1]) == [{"n": 1}]
    assert decoder.feed_untrusted(data[-1:]) == [{"n": 2}]
    decoder.finish()


def test_a_frame_as_long_as_allowed_passes_and_one_byte_more_does_not() -> None:
    overhead = len(msgpack.packb({"data": bytes(1000)})) - 1000
    largest = {"data": bytes(SIZE_MAX - overhead)}
    assert FrameDecoder(SIZE_MAX).feed_untrusted(encode_frame(largest, SIZE_MAX)) == [largest]
    longer = {"data": bytes(SIZE_MAX - overhead + 1)}
    with pytest.raises(FrameTooLarge):
        encode_frame(longer, SIZE_MAX)
    with pytest.raises(BadFrame):
        FrameDecoder(SIZE_MAX).feed_untrusted(encode_frame(longer, 2 * SIZE_MAX))


def test_an_announced_length_is_refused_before_its_body_arrives() -> None:
    with pytest.raises(BadFrame):
        FrameDecoder(SIZE_MAX).feed_untrusted((SIZE_MAX + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("cut", [1, 3, 4, 5])
def test_a_stream_that_stops_inside_a_frame_is_bad(cut: int) -> None:
    decoder = FrameDecoder(SIZE_MAX)
    assert decoder.feed_untrusted(encode_frame({"kind": "hello"}, SIZE_MAX)[:cut]) == []
    with pytest.raises(BadFrame):
        decoder.finish()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x80",  # two maps
        b"\x90",  # a list
        b"\xc0",  # nothing
        b"\x81\x01\x02",  # a key that is a number
        b"\x81\xc4\x01a\x01",  # a key that is bytes
        b"\x81\xa1a",  # a value is missing
        b"\x81\xa1a\xa2\xff\xff",  # text that is not UTF-8
        b"\x81\xa1a\xc1",  # the type that is never used
        b"\x81\xa1a\xdd\xff\xff\xff\xff",  # a list of four billion
        b"\x81\xa1a" + b"\x91" * 3000,  # nested deeper than anybody means
        b"\x81\xa1a\xd4\x05\x00",  # an extension
        b"\x81\xa1a\xc7\x03\xff\x00\x00\x00",  # a timestamp of no known length
    ],
)
def test_a_body_that_is_not_one_map_is_bad(body: bytes) -> None:
    with pytest.raises(BadFrame):
        FrameDecoder(SIZE_MAX).feed_untrusted(len(body).to_bytes(4, "big") + body)


def frame_streams() -> tuple[FrameStream, FrameStream, trio.testing.MemorySendStream]:
    """Two ends, and the first one's raw sending side."""
    left, right = trio.testing.memory_stream_pair()
    return FrameStream(left, SIZE_MAX), FrameStream(right, SIZE_MAX), left.send_stream


def test_frames_cross_a_stream_in_order_up_to_its_end() -> None:
    async def main() -> None:
        left, right, _ = frame_streams()
        sent: list[Mapping[str, Any]] = [{"n": n} for n in range(3)]
        for message in sent:
            await left.send(message)
        await left.send_eof()
        assert [await right.receive() for _ in range(4)] == [*sent, None]
        await right.send({"still": "open"})
        assert await left.receive() == {"still": "open"}

    run(main)


def test_frames_of_several_senders_never_mix() -> None:
    async def main() -> None:
        left, right, _ = frame_streams()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(left.send, {"n": number, "data": bytes(1000)})
            received = [await right.receive() for _ in range(20)]
        assert sorted(message["n"] for message in received if message) == list(range(20))

    run(main)


def test_a_frame_too_large_to_send_leaves_the_stream_usable() -> None:
    async def main() -> None:
        left, right, _ = frame_streams()
        with pytest.raises(FrameTooLarge):
            await left.send({"data": bytes(SIZE_MAX)})
        await left.send({"n": 1})
        assert await right.receive() == {"n": 1}

    run(main)


def test_nobody_sends_behind_half_a_frame() -> None:
    async def main() -> None:
        left, _, raw = frame_streams()
        raw.send_all_hook = trio.sleep_forever
        with trio.move_on_after(1):
            await left.send({"n": 1})
        raw.send_all_hook = None
        with pytest.raises(trio.BrokenResourceError):
            await left.send({"n": 2})

    run(main)


def test_a_cancelled_receive_loses_nothing() -> None:
    async def main() -> None:
        left, right, raw = frame_streams()
        frame = encode_frame({"n": 1}, SIZE_MAX)
        await raw.send_all(frame[:3])
        with trio.move_on_after(1):
            await right.receive()
        await raw.send_all(frame[3:])
        assert await right.receive() == {"n": 1}
        await left.aclose()

    run(main)


def test_an_end_inside_a_frame_is_bad() -> None:
    async def main() -> None:
        left, right, raw = frame_streams()
        await raw.send_all(encode_frame({"n": 1}, SIZE_MAX)[:-1])
        await left.aclose()
        with pytest.raises(BadFrame):
            await right.receive()

    run(main)
