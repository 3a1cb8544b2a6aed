"""A worker that breaks the protocol costs its own request only, and never hangs or floods the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk, Done, InferenceRequest, Progress, RequestId, Timings, Usage
from federation.errors import DeadlineExceeded, Failed, Misbehaved, PeerGone
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Accepted,
    Failure,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import encode
from federation.infer_server import InferServer
from ledger.records import ModelName
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame
from p2p.network import PeerStream

if TYPE_CHECKING:
    from tests.federation.conftest import Pair, Stage

ACCEPTED = Accepted(bytes(32), 3)
CHUNK = Chunk(0, (1,), "a")
DONE = Done(("stop",), Usage(1, 1), Timings())
REQUEST = Request(InferenceRequest("chat", RequestId("r"), ModelName("tiny"), max_tokens=2))


def frames_of(messages: Sequence[WorkerMessage | Request]) -> bytes:
    return b"".join(encode_frame(encode(message), FRAME_SIZE_MAX) for message in messages)


def in_no_utf8(frame: bytes) -> bytes:
    """The frame of `CHUNK`, with a text that is none."""
    assert frame.count(b"\xa1a") == 1
    return frame.replace(b"\xa1a", b"\xa1\xff")


def with_load(done: Done, **claimed: int) -> bytes:
    """The frame of `done`, with a load that no worker has."""
    load = {"slots_total": 4, "slots_busy": 0, "queued": 0, **claimed}
    return encode_frame({**encode(done), "load": load}, FRAME_SIZE_MAX)


def misbehave(p: Pair, data: bytes, *, closes: bool = False) -> None:
    """Have the worker answer each request with `data`."""

    async def answer(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        while await frames.receive() is not None:
            await stream.send_all(data)
            if closes:
                return

    p.worker.on_stream(PROTOCOL_ID, answer)


@pytest.mark.parametrize(
    "data",
    [
        frames_of([CHUNK]),
        frames_of([DONE]),
        frames_of([Failure("early")]),
        frames_of([ACCEPTED, ACCEPTED]),
        frames_of([ACCEPTED, CHUNK, Refusal("busy", "late")]),
        frames_of([ACCEPTED, *[CHUNK] * (CREDIT_MAX + 1)]),
        frames_of([ACCEPTED, Chunk(1, (1,), "of another choice")]),
        frames_of([ACCEPTED, Chunk(0, (1, 2, 3), "more than was asked for")]),
        frames_of([ACCEPTED, CHUNK, Done(("stop", "stop"), Usage(1, 1), Timings())]),
        frames_of([ACCEPTED, CHUNK, Done((), Usage(1, 1), Timings())]),
        frames_of([REQUEST]),
        b"\xff\xff\xff\xff and a gigabyte to come",
        b"\x00\x00\x00\x05junk!",
        b"\x00\x00\x00\x07\x81\xa4kind\x63",
        frames_of([ACCEPTED]) + in_no_utf8(frames_of([CHUNK])),
        frames_of([ACCEPTED, CHUNK]) + with_load(DONE, slots_busy=-1),
        frames_of([ACCEPTED, CHUNK]) + with_load(DONE, slots_total=2**40),
        frames_of([ACCEPTED]) + b"\x00\x00\x00\x02\x80\x00",
        encode_frame({"kind": 2, "prompt_sha256": b"short", "prompt_tokens": 1}, FRAME_SIZE_MAX),
        frames_of([ACCEPTED]) + encode_frame({"kind": 3, "choice": 0, "token_ids": [-1], "text": ""}, 99),
    ],
)
def test_a_broken_rule_is_misbehaviour(data: bytes, stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            misbehave(p, data)
            with pytest.raises(Misbehaved):
                # Nothing is read while the frames come in, as from a client that waits.
                await _read_late(p)
            InferServer(lambda peer: p.backend, p.backend.load).attach(p.worker)
            assert (await stage.read(p.remote, stage.request())).text == "one two three"
            assert p.streams.opened == 2

    stage.run(main)


async def _read_late(p: Pair) -> None:
    async with p.remote.infer(REQUEST.request) as answer:
        await trio.sleep(1)
        async for _ in answer.events:
            pass


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\x00", frames_of([ACCEPTED]), frames_of([ACCEPTED, CHUNK]), frames_of([Progress(0, 0)])],
)
def test_an_end_without_an_end_is_a_lost_peer(data: bytes, stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            misbehave(p, data, closes=True)
            with pytest.raises(Failed) as failed:
                await stage.read(p.remote, stage.request())
            # Half a frame is both; either way the request goes on elsewhere.
            assert isinstance(failed.value, PeerGone | Misbehaved)

    stage.run(main)


def answer_marked(p: Pair, *, ahead: Sequence[WorkerMessage] = ()) -> None:
    """Have the worker answer each request as it should, with its mark, and say `ahead` after that."""

    async def answer(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        while (values := await frames.receive()) is not None:
            if "mark" in values:
                accepted = replace(ACCEPTED, mark=values["mark"])
                await stream.send_all(frames_of([accepted, CHUNK, DONE, *ahead]))

    p.worker.on_stream(PROTOCOL_ID, answer)


@pytest.mark.parametrize(
    "ahead",
    [
        [DONE],
        [ACCEPTED, Chunk(0, (9,), "of nobody's"), DONE],
        [replace(ACCEPTED, mark=1), Chunk(0, (9,), "of nobody's"), DONE],
        [Refusal("busy", "of nobody's"), ACCEPTED],
        [Failure("of nobody's")],
    ],
    ids=["a second end", "an answer without a mark", "one with a mark", "a refusal", "a failure"],
)
def test_what_came_before_a_request_is_not_its_answer(ahead: list[WorkerMessage], stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            answer_marked(p, ahead=ahead)
            assert (await stage.read(p.remote, stage.request())).text == "a"
            with pytest.raises(Misbehaved):
                await stage.read(p.remote, stage.request())
            assert p.streams.opened == 1
            InferServer(lambda peer: p.backend, p.backend.load).attach(p.worker)
            assert (await stage.read(p.remote, stage.request())).text == "one two three"

    stage.run(main)


def test_who_says_whose_answer_it_is_is_asked_on_one_stream_again(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            answer_marked(p)
            for _ in range(3):
                assert (await stage.read(p.remote, stage.request())).text == "a"
            assert p.streams.opened == 1

    stage.run(main)


def test_an_older_worker_which_does_not_is_asked_once_on_each(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            misbehave(p, frames_of([ACCEPTED, CHUNK, DONE]))
            for _ in range(3):
                assert (await stage.read(p.remote, stage.request())).text == "a"
            assert p.streams.opened == 3

    stage.run(main)


def test_the_answer_to_another_request_is_none_on_a_new_stream_either(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            misbehave(p, frames_of([replace(ACCEPTED, mark=1), CHUNK, DONE]))
            with pytest.raises(Misbehaved, match="another request"):
                await stage.read(p.remote, stage.request())

    stage.run(main)


def test_progress_without_end_ends_with_the_request(stage: Stage) -> None:
    async def main() -> None:
        async def stall(stream: PeerStream) -> None:
            while True:
                await stream.send_all(frames_of([Progress(0, 0)]))
                await trio.sleep(1)

        async with stage.pair(serve=False) as p:
            p.worker.on_stream(PROTOCOL_ID, stall)
            with pytest.raises(DeadlineExceeded):
                await stage.read(p.remote, stage.request(timeout=20.0))

    stage.run(main)


def test_other_requests_to_the_same_peer_are_unharmed(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(stage.WORKER, gap=0.5)
        async with stage.pair(worker) as p, p.remote.infer(stage.request()) as answer:
            await anext(answer.events)
            misbehave(p, b"\x00\x00\x00\x05junk!")
            with pytest.raises(Misbehaved):
                await stage.read(p.remote, stage.request())
            assert sum(isinstance(event, Chunk) for event in [e async for e in answer.events]) == 2

    stage.run(main)


def test_of_a_chunk_whose_last_part_never_came_nothing_is_passed_on(stage: Stage) -> None:
    whole, part = Chunk(0, (1,), "a"), Chunk(0, (2, 3), "b", is_cut=True)

    async def main() -> None:
        async with stage.pair(serve=False) as pair:
            misbehave(pair, frames_of([ACCEPTED, whole, part, part]), closes=True)
            async with pair.remote.infer(stage.request()) as answer:
                assert await anext(answer.events) == whole
                with pytest.raises(PeerGone):
                    await anext(answer.events)

    stage.run(main)


def test_parts_of_a_chunk_are_passed_on_once_the_last_one_is_there(stage: Stage) -> None:
    parts = [Chunk(0, (1, 2), "", is_cut=True), Chunk(0, (), "ab", is_cut=True), Chunk(0, (), "c")]

    async def main() -> None:
        async with stage.pair(serve=False) as pair:
            misbehave(pair, frames_of([ACCEPTED, *parts, DONE]))
            answered = await stage.read(pair.remote, stage.request())
            assert answered.events == [*parts, DONE]

    stage.run(main)
