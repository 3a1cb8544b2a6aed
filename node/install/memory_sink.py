"""A file that is fetched into memory: a model's settings, which are small."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import chunk_count


class MemorySink:
    """A `ChunkSink`."""

    def __init__(self, size_bytes: int) -> None:
        self.have = HaveMap(chunk_count(size_bytes))
        self._chunks: dict[int, bytes] = {}

    async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
        """Keep a chunk."""
        await trio.lowlevel.checkpoint()
        self._chunks[chunk] = b"".join(pieces)
        self.have.add(chunk)

    def whole(self) -> bytes:
        """All of it, once all chunks are there."""
        assert self.have.is_full
        return b"".join(data for _, data in sorted(self._chunks.items()))
