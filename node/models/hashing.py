"""The sha256 of model files: computed once, in the background, then remembered.

A file is known again by its path, size, time of change and inode: if none of them
changed, neither did what is inside. All of it happens in a thread, one file at a time,
so the event loop never waits for a disk; a cancelled call ends after a chunk.

    hasher = FileHasher(home / "hashes.json")
    sha256 = await hasher.sha256(path)

A lost or damaged cache costs only time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import trio

from node.models.errors import ModelFileChanged, ModelFileUnreadable

logger = logging.getLogger(__name__)

_CHUNK_SIZE = 8 * 2**20
"""Bytes. Hashing them takes 5 to 20 ms: a quick end when cancelled."""

_CACHE_ENTRIES_MAX = 10_000
"""Far beyond the models of one home. Beyond it the oldest go, which costs hashing them again."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when the content of a file does."""

    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class HashCache:
    """sha256 by path and fingerprint, kept in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, list[int | str]] = {}
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            self._entries = {name: entry for name, entry in entries.items() if len(entry) == 4}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError) as error:
            logger.warning(
                "the cache of file hashes is not usable and starts empty: path=%s error=%s", path, error
            )

    def get(self, path: Path, fingerprint: Fingerprint) -> str | None:
        """The hash of the file as it is now, if it is known."""
        *known, sha256 = self._entries.get(str(path), [None])
        expected = [fingerprint.size_bytes, fingerprint.mtime_ns, fingerprint.inode]
        return str(sha256) if known == expected else None

    def put(self, path: Path, fingerprint: Fingerprint, sha256: str) -> None:
        """Remember a hash, on disk too.

        Raises:
          OSError: the file of the cache cannot be written.
        """
        self._entries.pop(str(path), None)
        self._entries[str(path)] = [fingerprint.size_bytes, fingerprint.mtime_ns, fingerprint.inode, sha256]
        while len(self._entries) > _CACHE_ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._entries, indent=1), encoding="utf-8")
        partial.replace(self._path)


class FileHasher:
    """Hashes one file at a time; further calls wait their turn."""

    def __init__(self, cache_path: Path) -> None:
        self._cache = HashCache(cache_path)
        self._turn = trio.Lock()

    async def sha256(self, path: Path) -> str:
        """The hex sha256 of the file at `path`. Cancelled: nothing is remembered of it.

        Raises:
          ModelFileUnreadable: it cannot be read.
          ModelFileChanged: somebody wrote to it meanwhile.
        """
        async with self._turn:
            return await trio.to_thread.run_sync(self._sha256, path.absolute())

    def _sha256(self, path: Path) -> str:
        try:
            fingerprint = Fingerprint.of(path.stat())
            known = self._cache.get(path, fingerprint)
            if known is not None:
                return known
            sha256 = _hash_file(path, fingerprint)
        except OSError as error:
            raise ModelFileUnreadable(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._cache.put(path, fingerprint, sha256)
        except OSError as error:
            logger.warning("a file's hash was computed and cannot be kept: path=%s error=%s", path, error)
        return sha256


def _hash_file(path: Path, fingerprint: Fingerprint) -> str:
    digest = hashlib.sha256()
    unread_bytes = fingerprint.size_bytes
    with path.open("rb") as file:
        # No more than was there: a file that grows as fast as it is read would never end.
        while unread_bytes > 0 and (chunk := file.read(_CHUNK_SIZE)):
            trio.from_thread.check_cancelled()
            digest.update(chunk)
            unread_bytes -= len(chunk)
        if Fingerprint.of(os.fstat(file.fileno())) != fingerprint:
            raise ModelFileChanged(f"{path} was written to while it was being hashed")
    return digest.hexdigest()
