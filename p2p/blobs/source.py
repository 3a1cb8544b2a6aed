"""Where a seeder takes chunks from: what a node can give. A port; `node/` has the store behind it.

A file may still be growing: a node passes a chunk on as soon as it verified it, and one that
downloads from outside of the swarm (an origin) does not know the hashes of what is to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import FileKey, ManifestId
from p2p.revision import Revision


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be given of one file at this moment. Its maps are read, and never changed, by who asked."""

    size_bytes: int
    have: HaveMap
    hashes: bytes | bytearray
    """32 bytes of each chunk, in order, zeros where it is not known yet. Of a chunk that is there it is."""
    sha256: str
    """In hexadecimal; empty while nobody knows."""
    is_growing: bool
    """More chunks may come by themselves."""
    changed: Revision
    """Rises when anything above changes, and when the file is gone: ask for the offer again."""


class ChunkSource(Protocol):
    """What this node can give to its peers."""

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        """That manifest as it is encoded, or None."""

    def offer(self, file: FileKey) -> Offer | None:
        """What there is of `file`, or None if there is nothing and nothing will come by itself."""

    async def read(self, file: FileKey, chunk: int) -> bytes:
        """All bytes of a chunk that is offered, read in a thread. Cancelled: nothing is held.

        They are those that were hashed, as far as a look at the file can tell: its size, its time of
        change and its inode are what they were.

        Raises:
          ChunkUnavailable: they are not, or the file is gone or cannot be read. `offer` says so afterwards.
        """
