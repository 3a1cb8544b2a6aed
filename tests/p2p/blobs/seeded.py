"""A seeder in memory, what it has, and fetchers that say what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random

import trio

from p2p.blobs.blob_messages import (
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Data,
    FetcherMessage,
    Request,
    SeederMessage,
    decode_from_seeder_untrusted,
    encode,
)
from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, FileKey, ManifestId, chunk_size, file_key, hash_chunk
from p2p.blobs.seeder import Seeder
from p2p.blobs.source import Offer
from p2p.blobs.upload import UploadLimits
from p2p.frame_stream import FrameStream
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.revision import Revision
from tests.p2p.people import identity

SEEDER = identity("seeder").peer_id
FILE = file_key("ab" * 32)
SIZE = 2 * CHUNK_SIZE + 100_000
DATA = Random(1).randbytes(SIZE)
HASHES = b"".join(hash_chunk(DATA[at : at + CHUNK_SIZE]) for at in range(0, SIZE, CHUNK_SIZE))
LAST = 2
"""A small chunk, which is quick to send."""


@dataclass
class OneFile:
    """A `ChunkSource` of `DATA`, and of some manifests."""

    manifests: dict[ManifestId, bytes] = field(default_factory=dict)
    reads: int = 0
    offered: Offer | None = field(
        default_factory=lambda: Offer(SIZE, HaveMap.full(3), HASHES, "ab" * 32, False, Revision())
    )
    data: bytes | None = DATA
    """None: it cannot be read."""
    gate: trio.Event | None = None
    """Reading waits for it."""
    calls_everything_so: bool = False
    """Offer the one file under every key."""

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        await self._wait()
        return self.manifests.get(manifest)

    def offer(self, file: FileKey) -> Offer | None:
        return self.offered if file == FILE or self.calls_everything_so else None

    async def read(self, file: FileKey, chunk: int) -> bytes:
        self.reads += 1
        await self._wait()
        if self.data is None:
            self.change(None)
            raise ChunkUnavailable("it changed on disk")
        return self.data[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE]

    async def _wait(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()

    def change(self, offer: Offer | None) -> None:
        """Offer that from now on, and say so."""
        before, self.offered = self.offered, offer
        assert before is not None
        before.changed.rise()

    def growing(self, *chunks: int) -> None:
        """Offer these chunks and no sha256: the rest is still to come."""
        have = HaveMap(3)
        for chunk in chunks:
            have.add(chunk)
        self.offered = Offer(SIZE, have, bytearray(HASHES), "", True, Revision())

    def gain(self, chunk: int) -> None:
        """That chunk has come."""
        assert self.offered is not None
        self.offered.have.add(chunk)
        self.offered.changed.rise()

    def complete(self) -> None:
        """All is here, and what it is is known."""
        assert self.offered is not None
        self.change(replace(self.offered, sha256="ab" * 32, is_growing=False))


class Fetcher:
    """One stream to the seeder."""

    def __init__(self, frames: FrameStream) -> None:
        self.frames = frames

    async def say(self, *messages: FetcherMessage) -> None:
        for message in messages:
            await self.frames.send(encode(message))

    async def hear(self) -> SeederMessage:
        values = await self.frames.receive()
        assert values is not None, "the seeder ended the stream"
        return decode_from_seeder_untrusted(values)

    async def hear_nothing(self, seconds: float) -> None:
        """Fail if the seeder says anything in that time."""
        with trio.move_on_after(seconds):
            raise AssertionError(f"heard {await self.hear()}")

    async def chunk(self, number: int, size: int) -> bytes:
        """All data of one request, which must come in order."""
        data = b""
        while len(data) < size:
            piece = await self.hear()
            assert isinstance(piece, Data), piece
            assert (piece.id, piece.offset) == (number, len(data))
            data += piece.data
        return data

    async def fetch(self, chunk: int, number: int = 0) -> bytes:
        await self.say(Request(number, FILE, chunk))
        return await self.chunk(number, chunk_size(SIZE, chunk))

    async def is_cut_off(self) -> bool:
        """Whether the seeder resets the stream, after whatever it still says."""
        try:
            while await self.frames.receive() is not None:
                pass
        except trio.BrokenResourceError:
            return True
        return False


@dataclass
class Stage:
    """A seeder, and networks that know it."""

    source: OneFile
    seeder: Seeder
    networks: list[MemoryNetwork]

    async def fetcher(self, number: int = 0) -> Fetcher:
        """A new stream of that peer."""
        stream = await self.networks[number].open_stream(SEEDER, PROTOCOL_ID)
        return Fetcher(FrameStream(stream, FRAME_SIZE_MAX))


@asynccontextmanager
async def seeding(
    *,
    peers: int = 1,
    limits: UploadLimits | None = None,
    is_inference_busy: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Stage]:
    """A seeder of `OneFile`, and so many peers."""
    hub, source = MemoryHub(), OneFile()
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(hub.network(SEEDER))
        seeder = Seeder(ours, source, limits or UploadLimits(), is_inference_busy)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(seeder.run)
        networks = [
            await stack.enter_async_context(hub.network(identity(f"peer {number}").peer_id))
            for number in range(peers)
        ]
        for network in networks:
            await network.dial(ours.listen_addresses[0])
        yield Stage(source, seeder, networks)
        nursery.cancel_scope.cancel()
