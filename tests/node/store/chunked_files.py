"""Files of a few small chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

from node.store import chunk_reader, disk, hash_cache, hashing, partial_disk
from node.store.partial_disk import WantedFile
from p2p.blobs import manifest
from p2p.blobs.manifest import file_key, hash_chunk

CHUNK = 4096
"""Bytes of a chunk in these tests."""


def small_chunks(put: Callable[[object, str, object], None]) -> None:
    """Make chunks small, and let files be written on a disk that is nearly full: `put` is as `setattr`."""
    for module in (chunk_reader, hash_cache, hashing, partial_disk, manifest):
        put(module, "CHUNK_SIZE", CHUNK)
    put(disk, "DISK_RESERVE", 0)


class SomeFile:
    """A file that is to come, of `count` chunks, the last one short."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.content = Random(seed).randbytes(count * CHUNK - 100)
        self.count = count
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.hashes = b"".join(hash_chunk(self.chunk(chunk)) for chunk in range(count))
        self.wanted = WantedFile(file_key(self.sha256), len(self.content), self.sha256, self.hashes)
        self.unhashed = WantedFile(file_key(self.sha256), len(self.content), self.sha256)
        """The same, as one knows it who downloads it."""

    def chunk(self, number: int) -> bytes:
        return self.content[number * CHUNK : (number + 1) * CHUNK]
