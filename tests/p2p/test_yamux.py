"""The multiplexer against a peer that breaks its rules, and with readers that do not read."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from p2p import yamux_frames as frames
from p2p.errors import BadFrame, Unreachable
from p2p.peer import PeerId
from p2p.yamux import STREAMS_MAX, YamuxSession
from p2p.yamux_frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_INITIAL, WINDOW_UPDATE
from p2p.yamux_stream import YamuxStream
from tests.mock_time import run

PEER = PeerId("peer")


class Wild:
    """A peer that sends what it likes, and a session that has to bear it."""

    def __init__(self, session: YamuxSession, raw: trio.abc.Stream, opened: list[YamuxStream]) -> None:
        self.session = session
        self.opened = opened
        self._raw = raw
        self._parser = frames.FrameParser(2**30)

    async def send(
        self, frame_type: int, flags: int, stream_id: int, length: int = 0, data: bytes = b""
    ) -> None:
        await self._raw.send_all(frames.encode(frame_type, flags, stream_id, length, data))
        await trio.testing.wait_all_tasks_blocked()

    async def receive(self) -> list[tuple[int, int, int, int]]:
        """What came, without data."""
        with trio.move_on_after(1):
            return [frame[:4] for frame in self._parser.feed_untrusted(await self._raw.receive_some())]
        return []


@asynccontextmanager
async def wild_peer() -> AsyncIterator[Wild]:
    ours, theirs = trio.testing.memory_stream_pair()
    opened: list[YamuxStream] = []
    session = YamuxSession(ours, PEER, is_initiator=True, on_stream=opened.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield Wild(session, theirs, opened)
        nursery.cancel_scope.cancel()


def test_a_ping_is_answered_with_its_value() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            await peer.send(PING, SYN, 0, 77)
            assert await peer.receive() == [(PING, ACK, 0, 77)]

    run(test)


def test_data_on_an_unknown_stream_is_answered_with_a_reset() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            await peer.send(DATA, 0, 42, data=b"x")
            assert await peer.receive() == [(WINDOW_UPDATE, RST, 42, 0)]
            await peer.send(WINDOW_UPDATE, RST, 42)
            await peer.send(WINDOW_UPDATE, FIN, 42)
            assert await peer.receive() == []

    run(test)


@pytest.mark.parametrize(
    "frame",
    [
        (7, 0, 2, 0, b""),  # no such type
        (WINDOW_UPDATE, SYN, 3, 0, b""),  # an id of ours
        (WINDOW_UPDATE, SYN, 0, 0, b""),  # the session's own id
        (WINDOW_UPDATE, SYN, 2, 0, b""),  # opened before
        (DATA, 0, 2, 0, bytes(WINDOW_INITIAL + 1)),  # more than was granted
        (GO_AWAY, 0, 0, 0, b""),
    ],
)
def test_who_breaks_the_rules_or_says_goodbye_is_disconnected(
    frame: tuple[int, int, int, int, bytes],
) -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            await peer.send(WINDOW_UPDATE, SYN, 2)
            await peer.send(*frame)
            assert peer.session.ended.is_set()
            with pytest.raises(trio.BrokenResourceError):
                await peer.opened[0].send_all(b"x")

    run(test)


def test_data_after_the_end_is_not_taken() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            await peer.send(DATA, SYN | FIN, 2, data=b"all")
            await peer.send(DATA, 0, 2, data=b"more")
            assert peer.session.ended.is_set()
            assert await peer.opened[0].receive_some() == b"all"

    run(test)


def test_streams_beyond_the_limit_are_refused() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            for number in range(1, STREAMS_MAX + 2):
                await peer._raw.send_all(frames.encode(WINDOW_UPDATE, SYN, 2 * number))
            await trio.testing.wait_all_tasks_blocked()
            assert len(peer.opened) == STREAMS_MAX
            answers = [answer for _ in range(3) for answer in await peer.receive()]
            assert (WINDOW_UPDATE, RST, 2 * STREAMS_MAX + 2, 0) in answers
            assert not peer.session.ended.is_set()

    run(test)


def test_who_asks_without_reading_the_answers_is_cut_off() -> None:
    async def test() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        ours.send_stream.send_all_hook = trio.sleep_forever
        session = YamuxSession(ours, PEER, is_initiator=True, on_stream=lambda _: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            with trio.fail_after(1):
                await theirs.send_all(frames.encode(PING, SYN, 0) * 100_000)
                await session.ended.wait()

    run(test)


@pytest.mark.parametrize("who", ["peer", "we"])
def test_a_sender_that_waits_for_the_connection_hears_of_a_reset_at_once(who: str) -> None:
    async def reset(stream: YamuxStream, theirs: trio.abc.Stream) -> None:
        await trio.testing.wait_all_tasks_blocked()
        if who == "peer":
            await theirs.send_all(frames.encode(WINDOW_UPDATE, RST, stream.stream_id))
        else:
            stream.drop()

    async def test() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        ours.send_stream.send_all_hook = trio.sleep_forever
        session = YamuxSession(ours, PEER, is_initiator=True, on_stream=lambda _: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            crowd, stream = session.open_stream(), session.open_stream()
            await crowd.send_all(bytes(WINDOW_INITIAL))
            nursery.start_soon(reset, stream, theirs)
            with trio.fail_after(1), pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                await stream.send_all(b"x")
            nursery.cancel_scope.cancel()

    run(test)


@pytest.mark.parametrize("is_read", [True, False])
def test_what_one_peer_makes_us_hold_is_bounded_over_all_its_streams(
    is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.yamux._UNREAD_SIZE_MAX", 2 * WINDOW_INITIAL)

    async def test() -> None:
        async with wild_peer() as peer:
            for number in (1, 2, 3):
                await peer.send(DATA, SYN, 2 * number, data=bytes(WINDOW_INITIAL))
                if is_read:
                    await peer.opened[-1].receive_some()
            assert peer.session.ended.is_set() == (not is_read)

    run(test)


def test_a_reader_that_waits_no_longer_finds_later_what_came_too_late() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            stream = peer.session.open_stream()
            began_at = trio.current_time()
            with pytest.raises(trio.TooSlowError):
                await stream.receive_until(began_at + 3, 100)
            assert trio.current_time() == began_at + 3
            await peer.send(DATA, 0, stream.stream_id, data=b"late")
            assert await stream.receive_until(began_at + 3, 100) == b"late"

    run(test)


def test_each_reader_has_the_time_it_was_given_whoever_began_first() -> None:
    async def test() -> None:
        async with wild_peer() as peer, trio.open_nursery() as nursery:
            gave_up_at: dict[float, float] = {}

            async def read(seconds: float) -> None:
                stream = peer.session.open_stream()
                with pytest.raises(trio.TooSlowError):
                    await stream.receive_until(trio.current_time() + seconds, 100)
                gave_up_at[seconds] = trio.current_time()

            began_at = trio.current_time()
            for seconds in (2.0, 3.0, 1.0, -1.0):
                nursery.start_soon(read, seconds)
                await trio.testing.wait_all_tasks_blocked()
        assert gave_up_at == {seconds: began_at + max(0.0, seconds) for seconds in (2.0, 3.0, 1.0, -1.0)}

    run(test)


def test_stream_ids_are_never_used_twice() -> None:
    async def test() -> None:
        async with wild_peer() as peer:
            peer.session._next_id = 2**32 - 1
            peer.session.open_stream()
            with pytest.raises(Unreachable):
                peer.session.open_stream()
            await peer.session.ended.wait()

    run(test)


def test_a_reader_that_stops_for_a_minute_loses_nothing_and_holds_up_nobody() -> None:
    async def test() -> None:
        streams = trio.open_memory_channel[YamuxStream](2)
        left, right = trio.testing.memory_stream_pair()
        a = YamuxSession(left, PEER, is_initiator=True, on_stream=lambda _: None)
        b = YamuxSession(right, PEER, is_initiator=False, on_stream=streams[0].send_nowait)
        data = bytes(3 * WINDOW_INITIAL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.run)
            nursery.start_soon(b.run)
            slow, quick = a.open_stream(), a.open_stream()
            slow_end, quick_end = [await streams[1].receive() for _ in range(2)]
            nursery.start_soon(slow.send_all, data)
            await trio.sleep(60)
            assert len(slow_end._inbox) == WINDOW_INITIAL, "what is held for it is bounded"
            await quick.send_all(b"hello")
            assert await quick_end.receive_some() == b"hello"
            received = 0
            while received < len(data):
                received += len(await slow_end.receive_some(1000))
            nursery.cancel_scope.cancel()

    run(test)


@given(pieces=st.lists(st.binary(max_size=50), max_size=5), cut=st.integers(1, 30))
def test_frames_arrive_however_the_bytes_are_cut(pieces: list[bytes], cut: int) -> None:
    data = b"".join(frames.encode(DATA, 0, number, data=piece) for number, piece in enumerate(pieces))
    parser = frames.FrameParser(50)
    parsed = [
        frame
        for start in range(0, len(data), cut)
        for frame in parser.feed_untrusted(data[start : start + cut])
    ]
    assert [(frame.stream_id, frame.data) for frame in parsed] == list(enumerate(pieces))


@given(data=st.binary(min_size=12, max_size=60))
def test_noise_is_frames_or_bad_and_nothing_else(data: bytes) -> None:
    parser = frames.FrameParser(1000)
    try:
        parsed = parser.feed_untrusted(data)
    except BadFrame:
        return
    assert all(struct.pack("!BB", 0, frame.type) in data for frame in parsed)


def test_an_announced_length_is_refused_before_its_data_arrives() -> None:
    with pytest.raises(BadFrame):
        frames.FrameParser(1000).feed_untrusted(struct.pack("!BBHII", 0, DATA, 0, 2, 1001))
