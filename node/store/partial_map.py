"""Which chunks of a partial file have come, in a file beside it.

    4080 bytes      what is coming, and how its file looked when it was left in order (sealed)
      16 bytes      who writes it
    32 per chunk    BLAKE3 of what was written there; zeros: nothing was

Each chunk's place says what its data must be, so the map can be wrong, torn or older or newer than the data,
after a crash or a power cut, and nothing wrong is believed: after all but an orderly end every chunk is read
and compared before it counts. So a place is written without waiting for the disk.

Where locks do not work (some network shares), two that write the same file find each other's mark here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from node.store.fingerprint import Fingerprint
from node.store.positioned_file import PositionedFile
from node.store.sealed import seal, unseal
from p2p.blobs.manifest import HASH_SIZE, FileKey, chunk_count

_HEAD_SIZE = 4080
_MARK_SIZE = 16
NO_HASH = bytes(HASH_SIZE)
"""What no data has as its hash."""


@dataclass(frozen=True, slots=True)
class LeftInOrder:
    """How a partial file was left by who closed it, all of it on the disk."""

    fingerprint: Fingerprint
    prefix: int
    """Chunks from the first on that its sha256 was fed."""
    state: bytes
    """Of that sha256; empty where it cannot be known."""


@dataclass(frozen=True, slots=True)
class MapHead:
    """What a map says of its file."""

    key: FileKey
    version: str
    size_bytes: int
    left: LeftInOrder | None = None
    """None: somebody writes to it, or did when everything ended."""


class PartialMap:
    """The map at `path`, made if it is missing. Used by threads, one at a time for the same chunk.

    Raises:
      OSError: as `PositionedFile`.
    """

    def __init__(self, path: Path) -> None:
        self._file = PositionedFile(path)
        self._mark = b""

    def head(self) -> MapHead | None:
        """What it says; None: it is new, or damaged."""
        # What follows the sealed value in its room is zeros, and part of no msgpack.
        size = int.from_bytes(self._file.read(0, 2), "big")
        match unseal(self._file.read(2, min(size, _HEAD_SIZE))):
            case [str(key), str(version), int(size_bytes), None]:
                return MapHead(FileKey(key), version, size_bytes)
            case [
                str(key),
                str(version),
                int(size_bytes),
                [[int(size), int(mtime_ns), int(inode)], int(prefix), bytes(state)],
            ]:
                left = LeftInOrder(Fingerprint(size, mtime_ns, inode), prefix, state)
                return MapHead(FileKey(key), version, size_bytes, left)
        return None

    def put_head(self, head: MapHead) -> None:
        """Say so, on the disk."""
        left = head.left
        sealed = seal(
            (
                head.key,
                head.version,
                head.size_bytes,
                left
                and (
                    (left.fingerprint.size_bytes, left.fingerprint.mtime_ns, left.fingerprint.inode),
                    left.prefix,
                    left.state,
                ),
            )
        )
        self._file.write(0, (len(sealed).to_bytes(2, "big") + sealed).ljust(_HEAD_SIZE, b"\0"))
        self._file.sync()

    def claims(self, size_bytes: int) -> bytes | None:
        """The hashes of the chunks that came of a file of that size; None: it is no map of such a file."""
        size = HASH_SIZE * chunk_count(size_bytes)
        if self._file.fingerprint().size_bytes != _HEAD_SIZE + _MARK_SIZE + size:
            return None
        claims = self._file.read(_HEAD_SIZE + _MARK_SIZE, size)
        return claims if len(claims) == size else None

    def start(self, head: MapHead, claims: bytes) -> None:
        """Become the map of the file that `head` tells of, written by this process from now on."""
        self._mark = os.urandom(_MARK_SIZE)
        self._file.resize(_HEAD_SIZE + _MARK_SIZE + len(claims))
        self._file.write(_HEAD_SIZE, self._mark + claims)
        self.put_head(head)

    def add(self, chunk: int, chunk_hash: bytes) -> None:
        """That chunk was written."""
        self._file.write(_HEAD_SIZE + _MARK_SIZE + HASH_SIZE * chunk, chunk_hash)

    def drop(self, chunk: int) -> None:
        """That chunk is not what it should be."""
        self.add(chunk, NO_HASH)

    def is_ours(self) -> bool:
        """Whether nobody else has started to write the same file."""
        return self._file.is_at_its_path() and self._file.read(_HEAD_SIZE, _MARK_SIZE) == self._mark

    def close(self) -> None:
        self._file.close()
