"""A front that breaks the protocol costs its own stream only, and frees what it held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import InferenceRequest, RequestId
from federation.errors import Refused
from federation.infer import CREDIT_MAX, FRAME_SIZE_MAX, PROTOCOL_ID, Credit, Request
from federation.infer_codec import encode
from ledger.records import ModelName
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame

if TYPE_CHECKING:
    from tests.federation.conftest import Pair, Stage

LONGER_THAN_ANY_STREAM_IDLES = 1000.0
REQUEST = Request(InferenceRequest("completion", RequestId("r"), ModelName("tiny")))


def frame_of(message: Request | Credit) -> bytes:
    return encode_frame(encode(message), FRAME_SIZE_MAX)


async def open_frames(p: Pair) -> FrameStream:
    return FrameStream(await p.front.open_stream(p.worker.me, PROTOCOL_ID), FRAME_SIZE_MAX)


async def expect_the_end(frames: FrameStream) -> None:
    """Read until the worker closes or resets the stream."""
    try:
        while await frames.receive() is not None:
            pass
    except trio.BrokenResourceError:
        pass


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc0",
        encode_frame({"kind": 3}, 99),
        encode_frame({"kind": 8, "count": CREDIT_MAX + 1}, 99),
        encode_frame({"kind": 1, "credit": 1, "request": {"kind": "poem"}}, 99),
        frame_of(Credit(CREDIT_MAX)),  # More than chunks were sent.
        frame_of(REQUEST),  # Before the end of the first.
    ],
)
def test_a_broken_rule_ends_the_stream_and_what_ran_on_it(frame: bytes, stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(stage.WORKER, hangs_at=1)
        async with stage.pair(worker) as p:
            frames = await open_frames(p)
            await frames.send(encode(REQUEST))
            await trio.sleep(1)
            assert worker.running == 1
            await frames.stream.send_all(frame)
            await expect_the_end(frames)
            assert worker.running == 0

    stage.run(main)


def test_a_stream_that_asks_for_nothing_is_closed(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            with trio.fail_after(LONGER_THAN_ANY_STREAM_IDLES):
                await expect_the_end(await open_frames(p))

    stage.run(main)


def test_half_a_request_is_closed_too(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            frames = await open_frames(p)
            await frames.stream.send_all(b"\x00\x00\x10\x00half")
            with trio.fail_after(LONGER_THAN_ANY_STREAM_IDLES):
                await expect_the_end(frames)

    stage.run(main)


def test_a_peer_cannot_open_streams_without_end(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            streams = [await open_frames(p) for _ in range(64)]
            with pytest.raises(Refused) as refused:
                await stage.read(p.remote, stage.request())
            assert refused.value.reason == "busy"
            await streams.pop().aclose()
            await trio.sleep(stage.A_ROUND_TRIP)
            assert (await stage.read(p.remote, stage.request())).text == "one two three"

    stage.run(main)


def test_a_front_that_ends_its_side_has_left(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(stage.WORKER, hangs_at=1)
        async with stage.pair(worker) as p:
            frames = await open_frames(p)
            await frames.send(encode(REQUEST))
            await trio.sleep(1)
            await frames.send_eof()
            await trio.sleep(stage.A_ROUND_TRIP)
            assert worker.running == 0

    stage.run(main)
