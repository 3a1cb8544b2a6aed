"""What is known of the hashes of files, one small file for each, so that none is read twice.

    hashes/5f0c...      of the file at one path, named by the path's hash

A file is known again by its path, size, time of change and inode: if none of them changed, neither did
what is inside. What is known of a file that was read in part is here too, and gone on from.
Nothing here is worth a fsync: a record that is lost or damaged costs only time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from node.store.fingerprint import Fingerprint
from node.store.sealed import seal, unseal
from node.store.whole_file import write_whole
from p2p.blobs.manifest import CHUNK_SIZE, HASH_SIZE

logger = logging.getLogger(__name__)

_RECORDS_MAX = 10_000
"""Far beyond the models of one home. Beyond it the oldest go, which costs hashing them again."""

_RECORD_SIZE_MAX = 64 * 2**20
"""Bytes. A file of 8 TiB has chunk hashes of that size; anything larger was not written by us."""


@dataclass(frozen=True, slots=True)
class FileHashes:
    """The hashes of the file at `path` as it was when it had `fingerprint`."""

    path: Path
    fingerprint: Fingerprint
    chunks: bytes = b""
    """BLAKE3 of each chunk, 32 bytes each, from the first on; of all where `sha256` is known."""
    sha256: str = ""
    """Hex; empty until all of it was read."""
    state: bytes = b""
    """Of the sha256 after `chunks` (`resumable_sha256.py`); empty where that is not known."""

    @property
    def is_whole(self) -> bool:
        return bool(self.sha256)

    @property
    def hashed_bytes(self) -> int:
        return min(len(self.chunks) // HASH_SIZE * CHUNK_SIZE, self.fingerprint.size_bytes)


class HashCache:
    """What is known, in the files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, path: Path, fingerprint: Fingerprint) -> FileHashes | None:
        """What is known of the file at `path`, if it is as it was then."""
        hashes = _read(self._place(path))
        if hashes is None or (hashes.path, hashes.fingerprint) != (path, fingerprint):
            return None
        return hashes

    def put(self, hashes: FileHashes) -> None:
        """Remember, on disk. A failure is logged: it costs only time."""
        fingerprint = hashes.fingerprint
        values = (
            str(hashes.path),
            [fingerprint.size_bytes, fingerprint.mtime_ns, fingerprint.inode],
            hashes.chunks,
            hashes.sha256,
            hashes.state,
        )
        place = self._place(hashes.path)
        try:
            is_new = not place.exists()
            write_whole(place, seal(values))
            if is_new:
                self._drop_oldest()
        except OSError as error:
            logger.warning(
                "a file's hashes were computed and cannot be kept: path=%s error=%s", hashes.path, error
            )

    def drop(self, path: Path) -> None:
        """Forget what is known of the file at `path`: it is not true, though the file looks as it did."""
        try:
            self._place(path).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("a file's hashes are wrong and cannot be forgotten: path=%s error=%s", path, error)

    def __iter__(self) -> Iterator[FileHashes]:
        """All that is known of whole files, as they were."""
        for place in self._places():
            hashes = _read(place)
            if hashes is not None and hashes.is_whole:
                yield hashes

    def _place(self, path: Path) -> Path:
        return self._folder / blake3(str(path).encode()).hexdigest()[:32]

    def _places(self) -> list[Path]:
        try:
            return sorted(place for place in self._folder.iterdir() if not place.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            logger.warning("the hashes of files cannot be read: path=%s error=%s", self._folder, error)
            return []

    def _drop_oldest(self) -> None:
        places = self._places()
        if len(places) > _RECORDS_MAX:
            places.sort(key=lambda place: place.stat().st_mtime_ns)
            for place in places[: len(places) - _RECORDS_MAX]:
                place.unlink(missing_ok=True)


def _read(place: Path) -> FileHashes | None:
    try:
        with place.open("rb") as file:
            data = file.read(_RECORD_SIZE_MAX)
    except OSError:
        return None
    match unseal(data):
        case [
            str(path),
            [int(size_bytes), int(mtime_ns), int(inode)],
            bytes(chunks),
            str(sha256),
            bytes(state),
        ]:
            return FileHashes(Path(path), Fingerprint(size_bytes, mtime_ns, inode), chunks, sha256, state)
    return None
