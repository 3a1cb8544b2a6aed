"""A peer that lies, floods or babbles among honest ones: cut off, and nobody's answer is worse for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio

from federation.backend import Chunk
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Accepted,
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


IN_NO_UTF8 = encode_frame(encode(CHUNK), FRAME_SIZE_MAX).replace(b"lies", b"\xff\xfe\xfd\xfc")


@asynccontextmanager
async def a_hostile_peer(swarm: Swarm, script: Script) -> AsyncIterator[list[int]]:
    """Who claims to have the model, and does `script` when asked. Yields how often that was, in a list."""
    asked = [0]

    async def serve(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        try:
            while await frames.receive() is not None:
                asked[0] += 1
                await script(frames)
        except trio.BrokenResourceError:
            pass  # It was cut off.

    async with swarm.hub.network(HOSTILE) as network:
        network.on_stream(PROTOCOL_ID, serve)
        await swarm.network.dial(network.listen_addresses[0])
        swarm.view.show(HOSTILE)
        yield asked


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
