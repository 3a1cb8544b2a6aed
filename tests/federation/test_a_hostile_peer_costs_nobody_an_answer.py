"""A peer that lies, floods or babbles among honest ones: cut off, and nobody's answer is worse for it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.errors import Failed
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Accepted,
    Failure,
    Refusal,
    WorkerMessage,
)
from federation.infer_codec import encode
from ledger.records import Load
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame
from p2p.network import PeerStream
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage, Swarm

Script: TypeAlias = Callable[[FrameStream], Awaitable[None]]
"""What a hostile peer does once it was asked."""

HOSTILE = PeerId("hostile")
ACCEPTED = Accepted(bytes(32), 3)
CHUNK = Chunk(0, (1,), "lies")
SHA256 = "a" * 64
PROMPT = "Count to three:"
PROPERLY_ACCEPTED = Accepted(hashlib.sha256(PROMPT.encode()).digest(), 3)
LONG = "x" * 60_000
REQUESTS = 12
"""At once: some come to the hostile peer first."""


def says(*messages: WorkerMessage) -> Script:
    async def run(frames: FrameStream) -> None:
        for message in messages:
            await frames.send(encode(message))

    return run


def sends(data: bytes) -> Script:
    async def run(frames: FrameStream) -> None:
        await frames.stream.send_all(data)

    return run


async def babbles(frames: FrameStream) -> None:
    """Text for as long as there is credit: a gigabyte and more if nobody stops it."""
    await frames.send(encode(ACCEPTED))
    credit = CREDIT_MAX
    while True:
        for _ in range(credit):
            await frames.send(encode(Chunk(0, (), LONG)))
        message = await frames.receive()
        if message is None:
            return
        credit = int(message["count"])


def is_at_work_for_ever(*messages: WorkerMessage) -> Script:
    """Says `messages`, and then every second that it is at work."""

    async def run(frames: FrameStream) -> None:
        await says(*messages)(frames)
        while True:
            await frames.send(encode(Progress(0, 3)))
            await trio.sleep(1)

    return run


IN_NO_UTF8 = encode_frame(encode(CHUNK), FRAME_SIZE_MAX).replace(b"lies", b"\xff\xfe\xfd\xfc")


@asynccontextmanager
async def a_hostile_peer(swarm: Swarm, script: Script) -> AsyncIterator[list[int]]:
    """Who claims to have the model, and does `script` when asked. Yields how often that was, in a list."""
    asked = [0]

    async def serve(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        try:
            while (message := await frames.receive()) is not None:
                if "request" in message:
                    asked[0] += 1
                    await script(frames)
        except trio.BrokenResourceError:
            pass  # It was cut off.

    async with swarm.hub.network(HOSTILE) as network:
        network.on_stream(PROTOCOL_ID, serve)
        await swarm.network.dial(network.listen_addresses[0])
        swarm.view.show(HOSTILE, sha256=SHA256)
        yield asked


def in_earnest_until(*lies: WorkerMessage) -> Script:
    """The first words as they should be, and then `lies`."""
    return says(PROPERLY_ACCEPTED, Chunk(0, (0,), "one"), Chunk(0, (1,), " two"), *lies)


@pytest.mark.parametrize(
    "script",
    [
        says(Refusal("busy", "so it says", load=Load(slots_total=100, slots_busy=0))),
        says(ACCEPTED, Chunk(1, (1,), "for another choice")),
        says(ACCEPTED, *[CHUNK] * (CREDIT_MAX + 1)),
        says(ACCEPTED, *[CHUNK] * 10),
        says(ACCEPTED, CHUNK),
        sends(encode_frame(encode(ACCEPTED), FRAME_SIZE_MAX) + IN_NO_UTF8),
        sends(b"\xff\xff\xff\xff and four gigabytes to come"),
        babbles,
        is_at_work_for_ever(),
        is_at_work_for_ever(ACCEPTED),
    ],
    ids=[
        "lies about its load",
        "sends tokens of another choice",
        "sends faster than it is read",
        "sends more tokens than were asked for",
        "sends no end and falls silent",
        "sends no UTF-8",
        "announces a frame of gigabytes",
        "sends a gigabyte of text",
        "is at work for ever before it accepts",
        "is at work for ever after that",
    ],
)
def test_every_answer_is_an_honest_one(script: Script, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("honest", slots=2 * REQUESTS) as swarm, a_hostile_peer(swarm, script) as asked:
            answers: list[str] = []

            async def ask() -> None:
                request = stage.request(is_streamed=False, max_tokens=3)
                answers.append((await stage.read(swarm.front, request)).text)

            async with trio.open_nursery() as nursery:
                for _ in range(REQUESTS):
                    nursery.start_soon(ask)
            assert answers == ["one two three"] * REQUESTS
            assert asked[0] > 0
            assert swarm.front.leases.count(HOSTILE, stage.MODEL) == 0

    stage.run(main)


@pytest.mark.parametrize(
    "script",
    [
        in_earnest_until(Chunk(1, (2,), " lies")),
        in_earnest_until(Done(("stop", "stop"), Usage(3, 3), Timings())),
        in_earnest_until(Refusal("busy", "too late")),
        in_earnest_until(PROPERLY_ACCEPTED),
        in_earnest_until(*[Chunk(0, (), "")] * (CREDIT_MAX + 1)),
        in_earnest_until(Chunk(0, (2, 3, 4), " three four five")),
        in_earnest_until(),
        is_at_work_for_ever(PROPERLY_ACCEPTED, Chunk(0, (0,), "one"), Chunk(0, (1,), " two")),
    ],
    ids=[
        "another choice",
        "an end of two choices",
        "a refusal",
        "a second acceptance",
        "more than it may",
        "more tokens than were asked for",
        "nothing",
        "signs of life",
    ],
)
def test_a_stream_goes_on_where_the_lies_began(script: Script, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("honest") as swarm, a_hostile_peer(swarm, script) as asked:
            swarm.view.show("honest", sha256=SHA256)
            for _ in range(REQUESTS):
                request = stage.request(prompt=PROMPT, max_tokens=3)
                assert (await stage.read(swarm.front, request)).text == "one two three"
            assert asked[0] > 0
            assert swarm.front.counts.failures[HOSTILE] == asked[0]

    stage.run(main)


@pytest.mark.parametrize(
    "script",
    [
        says(Accepted(bytes(32), 3), Chunk(0, (1, 2), " lies"), Done(("stop",), Usage(3, 3), Timings())),
        says(Refusal("resume_mismatch", "so it says")),
        says(Refusal("bad_request", "so it says")),
        says(PROPERLY_ACCEPTED, Failure("so it says", is_bad_request=True)),
        says(PROPERLY_ACCEPTED, Done((), Usage(3, 3), Timings())),
    ],
    ids=[
        "with another prompt",
        "and will not",
        "and blames the request",
        "and blames it on the way",
        "and ends it wrongly",
    ],
)
def test_who_is_asked_to_go_on_cannot_spoil_an_answer(script: Script, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("honest", "mortal") as swarm, a_hostile_peer(swarm, script) as asked:
            swarm.view.show("honest", sha256=SHA256)
            for _ in range(REQUESTS):
                swarm.workers["mortal"].failure, swarm.workers["mortal"].failure_at = Failed("it dies"), 1
                # The hostile one is there for the rest of the answer only, and so is the honest one.
                swarm.view.show("mortal", sha256=SHA256)
                for name in (HOSTILE, "honest"):
                    swarm.view.show(name, "draining", sha256=SHA256)
                async with swarm.front.infer(stage.request(prompt=PROMPT)) as answer:
                    for name in (HOSTILE, "honest"):
                        swarm.view.show(name, sha256=SHA256)
                    events = [event async for event in answer.events]
                assert "".join(e.text for e in events if isinstance(e, Chunk)) == "one two three"
                # Until who fails so often is asked again.
                await trio.sleep(60)
            assert asked[0] > 0

    stage.run(main)


def test_who_misbehaves_is_counted_and_asked_ever_more_rarely(stage: Stage) -> None:
    async def main() -> None:
        script = says(ACCEPTED, Chunk(1, (1,), "for another choice"))
        async with stage.swarm("honest") as swarm, a_hostile_peer(swarm, script) as asked:
            for _ in range(120):
                assert (await stage.read(swarm.front, stage.request())).text == "one two three"
                await trio.sleep(1)
            # Three times until its circuit opens, then after 1, 2, 4 ... seconds, a minute at most.
            assert 3 <= asked[0] <= 12
            assert swarm.front.counts.failures[HOSTILE] == asked[0]

    stage.run(main)
