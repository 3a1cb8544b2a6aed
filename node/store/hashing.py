"""The hashes of files: computed once, in the background, then remembered.

    hasher = FileHasher(home / "hashes")
    hashes = await hasher.hash(path)            sha256 of the file, BLAKE3 of each chunk, in one pass

All of it happens in a thread, one file at a time, so the event loop never waits for a disk. A cancelled call
ends after a chunk, and one that follows, after a restart too, goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

import trio
from blake3 import blake3

from node.models.errors import ModelFileChanged, ModelFileUnreadable
from node.store.fingerprint import Fingerprint
from node.store.hash_cache import FileHashes, HashCache
from node.store.resumable_sha256 import ResumableSha256
from p2p.blobs.manifest import CHUNK_SIZE, HASH_SIZE

_CHECKPOINT_CHUNKS = 64
"""Of 4 MiB: what a crash costs is hashing 256 MiB again, less than a second."""

OnProgress: TypeAlias = Callable[[int], None]
"""Told, in the loop's thread, how many bytes are done."""


def ignore_progress(_done_bytes: int) -> None:
    """Where nobody watches."""


class FileHasher:
    """Hashes one file at a time; further calls wait their turn."""

    def __init__(self, folder: Path) -> None:
        self.cache = HashCache(folder)
        self._turn = trio.Lock()

    async def hash(self, path: Path, on_progress: OnProgress = ignore_progress) -> FileHashes:
        """The hashes of the file at `path`. Cancelled: what was done is kept for the next call.

        Raises:
          ModelFileUnreadable: it cannot be read.
          ModelFileChanged: somebody wrote to it meanwhile.
        """
        async with self._turn:
            return await trio.to_thread.run_sync(self._hash, path.absolute(), on_progress)

    def _hash(self, path: Path, on_progress: OnProgress) -> FileHashes:
        try:
            fingerprint = Fingerprint.of_path(path)
            known = self.cache.get(path, fingerprint) or FileHashes(path, fingerprint)
            return known if known.is_whole else self._go_on(known, on_progress)
        except OSError as error:
            raise ModelFileUnreadable(f"{path} cannot be read: {error.strerror}") from error

    def _go_on(self, known: FileHashes, on_progress: OnProgress) -> FileHashes:
        """Read the rest of a file of which `known` is known."""
        with known.path.open("rb", buffering=0) as file:
            run = _Run(file, known)
            try:
                while run.unread_bytes > 0:
                    trio.from_thread.check_cancelled()
                    run.step()
                    trio.from_thread.run_sync(on_progress, run.done_bytes)
                    if run.chunks % _CHECKPOINT_CHUNKS == 0:
                        self._keep(run)
            except trio.Cancelled:
                self._keep(run)
                raise
            hashes = replace(run.hashes(), sha256=run.sha256.hexdigest(), state=b"")
            if Fingerprint.of(os.fstat(file.fileno())) != known.fingerprint:
                raise ModelFileChanged(f"{known.path} was written to while it was being hashed")
        self.cache.put(hashes)
        return hashes

    def _keep(self, run: _Run) -> None:
        # Of a file that somebody writes to nothing is worth keeping, and the end will say so.
        if run.done_bytes and not run.has_changed():
            self.cache.put(run.hashes())


class _Run:
    """One file on its way through both hashes."""

    def __init__(self, file: BinaryIO, known: FileHashes) -> None:
        resumed = ResumableSha256.resume(known.state, known.hashed_bytes) if known.state else None
        self.sha256 = resumed or ResumableSha256()
        self._known = known
        self._file = file
        # Without the state of its sha256 all is read again, and the hashes of its chunks are computed anew
        # too, which takes a fifth of the time of the other.
        self._chunks = bytearray(known.chunks if resumed else b"")
        self.done_bytes = known.hashed_bytes if resumed else 0
        file.seek(self.done_bytes)

    @property
    def unread_bytes(self) -> int:
        # No more than was there: a file that grows as fast as it is read would never end.
        return self._known.fingerprint.size_bytes - self.done_bytes

    @property
    def chunks(self) -> int:
        return len(self._chunks) // HASH_SIZE

    def step(self) -> None:
        """Hash one more chunk.

        Raises:
          ModelFileChanged: the file ends before it.
          OSError: it cannot be read.
        """
        size_bytes = min(CHUNK_SIZE, self.unread_bytes)
        data = read_exactly(self._file, size_bytes)
        if len(data) < size_bytes:
            raise ModelFileChanged(f"{self._known.path} was cut off while it was being hashed")
        self.sha256.update(data)
        self._chunks += blake3(data).digest()
        self.done_bytes += size_bytes

    def has_changed(self) -> bool:
        return Fingerprint.of(os.fstat(self._file.fileno())) != self._known.fingerprint

    def hashes(self) -> FileHashes:
        state = self.sha256.state() or b""
        return replace(self._known, chunks=bytes(self._chunks), state=state)


def read_exactly(file: BinaryIO, size_bytes: int) -> bytes:
    """The next `size_bytes` bytes of `file`, which may be unbuffered; fewer where it ends."""
    data = file.read(size_bytes)
    while len(data) < size_bytes and (more := file.read(size_bytes - len(data))):
        data += more
    return data
