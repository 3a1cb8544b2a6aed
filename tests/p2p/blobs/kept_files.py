"""Files in memory, as a node keeps them: what a fetch fills and a seeder gives from, at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import TypeVar, TypeVarTuple

import trio

from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import (
    CHUNK_SIZE,
    FileKey,
    Manifest,
    ManifestFile,
    ManifestId,
    chunk_count,
    hash_chunk,
    manifest_of,
)
from p2p.blobs.source import Offer
from p2p.revision import Revision

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


async def run_inline(function: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """Where a clock jumps, nothing may run in a thread."""
    await trio.lowlevel.checkpoint()
    return function(*args)


def contents(chunks: int, *, last: int = 1000, seed: int = 1) -> bytes:
    """A file of so many chunks, the last of which has `last` bytes. Every chunk is another one."""
    piece = Random(seed).randbytes(1024)
    whole = b"".join(
        number.to_bytes(4, "big") * 256 + piece * (CHUNK_SIZE // 1024 - 1) for number in range(chunks)
    )
    return whole[: CHUNK_SIZE * (chunks - 1) + last]


def manifest_file(data: bytes, name: str = "model.gguf") -> ManifestFile:
    """What a manifest says of a file with those bytes."""
    hashes = b"".join(
        hash_chunk(data[start : start + CHUNK_SIZE]) for start in range(0, len(data), CHUNK_SIZE)
    )
    return ManifestFile(name, len(data), sha256(data).hexdigest(), hashes)


class KeptFile:
    """A `ChunkSink` that can be given from. `write` may be slow, or fail."""

    def __init__(self, size_bytes: int, data: bytes | None = None) -> None:
        self.data = bytearray(data if data is not None else size_bytes)
        self.size_bytes = size_bytes
        count = chunk_count(size_bytes)
        self.have = HaveMap.full(count) if data is not None else HaveMap(count)
        self.hashes = bytearray(32 * count)
        self.sha256 = ""
        self.changed = Revision()
        self.write_time = 0.0
        self.failure: Exception | None = None
        self.writing = 0
        self.writing_most = 0
        if data is not None:
            file = manifest_file(data)
            self.hashes[:] = file.hashes
            self.sha256 = file.sha256

    async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
        """As `ChunkSink`."""
        self.writing += 1
        self.writing_most = max(self.writing_most, self.writing)
        try:
            await trio.sleep(self.write_time)
        finally:
            self.writing -= 1
        if self.failure is not None:
            raise self.failure
        self.keep(chunk, b"".join(pieces))

    def keep(self, chunk: int, data: bytes) -> None:
        """`chunk` is there, wherever it came from."""
        assert chunk not in self.have, "written twice"
        self.data[chunk * CHUNK_SIZE : chunk * CHUNK_SIZE + len(data)] = data
        self.hashes[chunk * 32 : chunk * 32 + 32] = hash_chunk(data)
        self.have.add(chunk)
        self.changed.rise()


class KeptFiles:
    """A `ChunkSource`."""

    def __init__(self) -> None:
        self.files: dict[FileKey, KeptFile] = {}
        self.manifests: dict[ManifestId, bytes] = {}
        self.corrupt: set[FileKey] = set()
        """Of these, other bytes are given than were hashed."""

    def add(self, *datas: bytes) -> Manifest:
        """Keep these files whole, and the manifest of all."""
        files = [manifest_file(data, f"model-{number}.gguf") for number, data in enumerate(datas)]
        for file, data in zip(files, datas, strict=True):
            self.files[file.key] = KeptFile(file.size_bytes, data)
        manifest = manifest_of(files)
        self.manifests[manifest.id] = manifest.encode()
        return manifest

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.manifests.get(manifest)

    def offer(self, file: FileKey) -> Offer | None:
        kept = self.files.get(file)
        if kept is None:
            return None
        return Offer(
            kept.size_bytes, kept.have, kept.hashes, kept.sha256, not kept.have.is_full, kept.changed
        )

    async def read(self, file: FileKey, chunk: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if file not in self.files or chunk not in self.files[file].have:
            raise ChunkUnavailable(f"chunk {chunk}")
        data = bytes(self.files[file].data[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE])
        return data[:-1] + b"?" if file in self.corrupt else data
