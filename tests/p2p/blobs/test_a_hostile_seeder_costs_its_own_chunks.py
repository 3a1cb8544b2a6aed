"""Seeders that break the protocol in every way lose their stream, and the file comes from somebody else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import pytest
import trio

from p2p.blobs.blob_messages import (
    FRAME_SIZE_MAX,
    Data,
    Follow,
    Gained,
    Have,
    ManifestPiece,
    NoManifest,
    Refused,
    Request,
    SeederMessage,
    WantManifest,
    decode_from_fetcher_untrusted,
    encode,
)
from p2p.blobs.errors import NobodyHasIt
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, ManifestId, file_key
from p2p.frame_stream import FrameStream
from p2p.memory_network import MemoryHub
from p2p.network import PeerStream
from tests.mock_time import run
from tests.p2p.blobs.blob_nodes import ANNA, BEN, CLEO, blob_node, scripted_seeder
from tests.p2p.blobs.kept_files import contents, manifest_file

DATA = contents(5)
FILE = manifest_file(DATA)
ALL = HaveMap.full(FILE.chunk_count).to_bytes()
HAVE = Have(FILE.key, FILE.size_bytes, ALL, FILE.sha256, is_growing=False)

Answer: TypeAlias = Callable[[Request], Sequence[SeederMessage]]


def script_of(
    *offered: SeederMessage, answer: Answer = lambda request: []
) -> Callable[[PeerStream], Awaitable[None]]:
    """A seeder that says `offered` of whatever is followed, and `answer` to each request."""

    async def talk(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        while (message := await next_of(frames)) is not None:
            match message:
                case Follow():
                    for each in offered:
                        await frames.send(encode(each))
                case Request():
                    for each in answer(message):
                        await frames.send(encode(each))

    return talk


async def next_of(frames: FrameStream) -> object:
    """What the fetcher says next; None: it has ended."""
    values = await frames.receive()
    return None if values is None else decode_from_fetcher_untrusted(values)


def piece(request: Request, *, offset: int = 0, number: int | None = None) -> Data:
    return Data(request.id if number is None else number, offset, b"?" * 60_000)


def too_much(request: Request) -> Sequence[SeederMessage]:
    """The last chunk has 1000 bytes."""
    return [piece(request)] if request.chunk == FILE.chunk_count - 1 else []


HOSTILE = {
    "silence": script_of(),
    "silence when asked": script_of(HAVE),
    "another size": script_of(Have(FILE.key, 77, b"\x80", "", is_growing=False)),
    "a map that is too long": script_of(Have(FILE.key, FILE.size_bytes, ALL + b"\x00", "", is_growing=False)),
    "a map of chunks that are not": script_of(Have(FILE.key, FILE.size_bytes, b"\xff", "", is_growing=False)),
    "a chunk that is not": script_of(HAVE, Gained(FILE.key, (99,))),
    "gained before any map": script_of(Gained(FILE.key, (1,))),
    "another file": script_of(Have(file_key("0" * 64), 77, b"\x80", "", is_growing=False)),
    "data nobody asked for": script_of(HAVE, answer=lambda request: [piece(request, number=request.id + 99)]),
    "data that begins in the middle": script_of(HAVE, answer=lambda request: [piece(request, offset=1)]),
    "the same data twice": script_of(HAVE, answer=lambda request: 2 * [piece(request)]),
    "more than the chunk": script_of(HAVE, answer=too_much),
    "busy for ever": script_of(HAVE, answer=lambda request: [Refused(request.id, "busy")]),
    "a piece, and busy": script_of(
        HAVE, answer=lambda request: [piece(request), Refused(request.id, "busy")]
    ),
    "none of what it has": script_of(HAVE, answer=lambda request: [Refused(request.id, "no_chunk")]),
    "gone when asked": script_of(HAVE, answer=lambda request: [Refused(request.id, "gone")]),
    "gone, and back": script_of(HAVE, answer=lambda request: [Refused(request.id, "gone"), HAVE]),
    "refused twice": script_of(HAVE, answer=lambda request: 2 * [Refused(request.id, "no_chunk")]),
    "a manifest nobody wants": script_of(ManifestPiece(ManifestId("0" * 64), 0, 9, b"123456789")),
    "no manifest": script_of(HAVE, NoManifest(ManifestId("0" * 64))),
    "one piece and no more": script_of(HAVE, answer=lambda request: [piece(request)]),
}


@pytest.mark.parametrize("hostility", HOSTILE)
def test_the_file_comes_from_who_is_honest(hostility: str) -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            scripted_seeder(hub, ANNA, HOSTILE[hostility]) as anna,
            blob_node(hub, BEN, rate=2e6) as ben,
            blob_node(hub, CLEO, ben) as cleo,
        ):
            await cleo.network.dial(anna.listen_addresses[0])
            ben.files.add(DATA)
            with trio.fail_after(len(DATA) / 2e6 + 10):
                progress = await cleo.fetch(FILE, ANNA.peer_id, ben.peer)
            assert cleo.files.files[FILE.key].data == DATA
            assert progress.wasted_bytes <= 2 * CHUNK_SIZE
            assert cleo.dropped == set()

    run(main)


@pytest.mark.parametrize("hostility", HOSTILE)
def test_alone_it_is_not_asked_without_end(hostility: str) -> None:
    """Whatever it does, it makes us say little."""

    async def main() -> None:
        hub = MemoryHub(seed=1)
        asked: list[bytes | bytearray] = []

        async def counted(stream: PeerStream) -> None:
            real = stream.receive_some

            async def receive_some(max_bytes: int | None = None) -> bytes | bytearray:
                data = await real(max_bytes)
                asked.append(data)
                return data

            stream.receive_some = receive_some  # type: ignore[method-assign]
            await HOSTILE[hostility](stream)

        async with scripted_seeder(hub, ANNA, counted) as anna, blob_node(hub, CLEO) as cleo:
            await cleo.network.dial(anna.listen_addresses[0])
            with trio.move_on_after(600):
                await cleo.fetch(FILE, ANNA.peer_id)
            assert not cleo.files.files[FILE.key].have.count
            # A retry every half a minute, or two chunks every sixteen seconds.
            assert sum(map(len, asked)) / 600 < 100

    run(main)


def test_a_manifest_that_never_ends_is_given_up() -> None:
    async def script(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        message = await next_of(frames)
        assert isinstance(message, WantManifest)
        await frames.send(encode(ManifestPiece(message.manifest, 0, 10_000_000, b"x" * 60_000)))
        assert await next_of(frames) is None

    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with scripted_seeder(hub, ANNA, script) as anna, blob_node(hub, CLEO) as cleo:
            await cleo.network.dial(anna.listen_addresses[0])
            with trio.fail_after(60), pytest.raises(NobodyHasIt):
                await cleo.fetcher.fetch_manifest(ManifestId("0" * 64), [ANNA.peer_id])
            await trio.sleep(1)
            assert cleo.streams == 0

    run(main)


def fetch_from_nobody_else(talk: Callable[[PeerStream], Awaitable[None]], seconds: float) -> None:
    """For so long, from a seeder that answers as `talk` does."""

    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with scripted_seeder(hub, ANNA, talk) as anna, blob_node(hub, CLEO) as cleo:
            await cleo.network.dial(anna.listen_addresses[0])
            with trio.move_on_after(seconds):
                await cleo.fetch(FILE, ANNA.peer_id)

    run(main)


def test_who_tells_without_end_is_not_listened_to() -> None:
    said: list[int] = []
    """On each of its streams."""

    async def talk(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        while not isinstance(await next_of(frames), Follow):
            pass
        said.append(0)
        while True:
            await frames.send(encode(HAVE))
            said[-1] += 1

    fetch_from_nobody_else(talk, 10)
    assert 1 < len(said) < 8, "it is asked again, less often each time"
    assert max(said) < 12_000, "4096 are read, and some fill what is between the two"


def test_who_sends_chunks_in_crumbs_is_not_listened_to() -> None:
    """Each of them takes many times its size in memory."""
    sent: list[int] = []
    """On each of its streams."""

    async def talk(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        while (message := await next_of(frames)) is not None:
            if isinstance(message, Follow):
                await frames.send(encode(HAVE))
            elif isinstance(message, Request) and message.chunk < FILE.chunk_count - 1:
                sent.append(0)
                for offset in range(0, 40_000, 2):
                    await frames.send(encode(Data(message.id, offset, b"??")))
                    sent[-1] += 1

    fetch_from_nobody_else(talk, 5)
    assert sent
    assert max(sent) < 20_000, "4096 are read, and some fill what is between the two"
