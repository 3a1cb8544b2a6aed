"""The file that a fetch is for: what it is called, how large it is, and what its chunks must hash to.

Of a file in a manifest all hashes are known. One that another node (the origin) downloads from outside of the
swarm is fetched as it grows: its hashes come from the origin, chunk by chunk, and from nobody else. If they
are a lie, that shows when the whole file's sha256 is compared, and no seeder is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from p2p.blobs.blob_messages import Gained
from p2p.blobs.manifest import HASH_SIZE, FileKey, ManifestFile, chunk_count, chunk_size
from p2p.peer import PeerId

_UNKNOWN = bytes(HASH_SIZE)
"""A hash that is not known yet: no chunk has it."""


@dataclass(slots=True)
class FetchedFile:
    """Changes while it is fetched: hashes become known."""

    key: FileKey
    size_bytes: int
    hashes: bytearray
    """32 bytes of each chunk, zeros where they are not known."""
    sha256: str
    """In hexadecimal; empty while nobody told it."""
    origin: PeerId | None = None
    """Who tells the hashes that are not known; None: all are, from a manifest."""
    dropped: set[PeerId] = field(default_factory=set)
    """Who sent a wrong chunk: nothing is fetched from them."""

    @classmethod
    def of_manifest(cls, file: ManifestFile, dropped: set[PeerId] | None = None) -> FetchedFile:
        """A file whose chunks are all known. `dropped`: the one set of all files of the manifest."""
        return cls(
            file.key,
            file.size_bytes,
            bytearray(file.hashes),
            file.sha256,
            dropped=set() if dropped is None else dropped,
        )

    @classmethod
    def of_origin(cls, key: FileKey, size_bytes: int, origin: PeerId, sha256: str = "") -> FetchedFile:
        """A file that `origin` downloads, and of whose chunks nothing is known yet."""
        return cls(key, size_bytes, bytearray(HASH_SIZE * chunk_count(size_bytes)), sha256, origin)

    @property
    def chunk_count(self) -> int:
        """How many chunks it is cut in."""
        return chunk_count(self.size_bytes)

    def chunk_size(self, chunk: int) -> int:
        """Bytes of one chunk."""
        return chunk_size(self.size_bytes, chunk)

    def chunk_hash(self, chunk: int) -> bytes:
        """The BLAKE3 of one chunk, which must be known."""
        return bytes(self.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE])

    def known(self, chunks: Iterable[int]) -> list[int]:
        """Those of `chunks` whose hashes are known."""
        return [chunk for chunk in chunks if self.chunk_hash(chunk) != _UNKNOWN]

    def learn(self, gained: Gained) -> list[int]:
        """Take over what the origin said. Returns the chunks that are known only now. What it said of a chunk
        before stays: some may have been fetched by it."""
        learned = []
        for index, chunk in enumerate(gained.chunks if gained.hashes else ()):
            if self.chunk_hash(chunk) == _UNKNOWN:
                told = gained.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]
                self.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE] = told
                learned.append(chunk)
        return learned
