"""A file that is coming in, as it lies on the disk: used by threads, never by the event loop.

    models/.NAME.partial         its data, where it will be, sparse
    models/.NAME.partial.map     what of it has come
    models/.NAME.partial.lock    who writes it
    models/NAME                  all of it, its sha256 compared, on the disk

A crash or a power cut in the middle of anything leaves these files, and the next who opens them counts the
chunks whose data is what the map or the manifest says. What is under its name is whole.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from node.store.disk import require_room, written_in
from node.store.errors import FileInTheWay, WrongContent
from node.store.fingerprint import Fingerprint
from node.store.hash_cache import FileHashes
from node.store.partial_files import beside
from node.store.partial_lock import PartialLock
from node.store.partial_map import NO_HASH, LeftInOrder, MapHead, PartialMap
from node.store.positioned_file import PositionedFile
from node.store.resumable_sha256 import ResumableSha256
from node.store.whole_file import give_name, sync_folder
from p2p.blobs.errors import ChunkUnavailable, SinkFailed, SinkFull
from p2p.blobs.manifest import (
    CHUNK_SIZE,
    HASH_SIZE,
    FileKey,
    ManifestFile,
    chunk_count,
    chunk_size,
    hash_chunk,
)

_SYNC_CHUNKS = 16
"""Written before the disk has to have them: 64 MiB, which a power cut may cost and a last fsync waits for."""
_WRONG_MAX = 8
"""Chunks that may be otherwise on the disk than they were written, while a file comes. Each comes once more;
where so many were changed, by the disk or by a program that writes there too, the next ones will be."""
_FEED_CHUNKS = 4
"""That one write may add to the sha256 besides its own: it catches up, and no write waits long."""

Report: TypeAlias = Callable[[int], None]
"""Told how many bytes are done; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What is to come."""

    key: FileKey
    size_bytes: int
    sha256: str = ""
    """Hex; empty while nobody knows."""
    hashes: bytes = b""
    """BLAKE3 of each chunk; empty while nobody knows."""
    version: str = ""
    """What else must be the same for a file without a sha256 to be gone on with: what the server calls its
    state, for instance. At most 200 bytes."""

    @classmethod
    def of(cls, file: ManifestFile) -> WantedFile:
        return cls(file.key, file.size_bytes, file.sha256, file.hashes)

    @property
    def chunk_count(self) -> int:
        return chunk_count(self.size_bytes)

    def chunk_size(self, chunk: int) -> int:
        return chunk_size(self.size_bytes, chunk)


class PartialDisk:
    """The file that will be at `path`. Opening counts what came before, which may take reading all of it.

    Raises:
      FileInTheWay: something is at `path`.
      PartialInUse: somebody else writes it.
      SinkFull, SinkFailed: the disk has no room for the rest, or does not let us write.
    """

    def __init__(self, path: Path, wanted: WantedFile, report: Report) -> None:
        self.path = path
        self.wanted = wanted
        self.there: set[int] = set()
        """Chunks that count."""
        self.hashes = bytearray(wanted.hashes or NO_HASH * wanted.chunk_count)
        self._digest, self._prefix = ResumableSha256(), 0
        """Of the first chunks."""
        self._digesting = threading.Lock()
        self._unsynced: set[int] = set()
        self._wrong_count = 0
        """Chunks that were otherwise on the disk than they were written."""
        self._problem = ""
        self._data: PositionedFile | None = None
        self._map: PartialMap | None = None
        self._lock: PartialLock | None = None
        try:
            with written_in(path.parent):
                self._open(report)
        except BaseException:
            self._let_go(for_good=False)
            raise

    def write(self, chunk: int, pieces: Sequence[bytes]) -> bytes:
        """Keep a chunk, which `pieces` are together; returns its hash.

        Raises:
          SinkFull, SinkFailed: it was not kept, and with the latter maybe some before it: see `there`.
        """
        data_file, partial_map = self._files()
        size_bytes = sum(map(len, pieces))
        assert size_bytes == self.wanted.chunk_size(chunk)
        chunk_hash = self._hash_of(chunk) if self.wanted.hashes else hash_chunk(*pieces)
        with written_in(self.path.parent):
            if not data_file.is_at_its_path() or not partial_map.is_ours():
                self._problem = (
                    f"another node has begun to write {data_file.path}: one of the two has to stop"
                )
                raise SinkFailed(self._problem)
            require_room(self.path.parent, size_bytes)
            data_file.write(chunk * CHUNK_SIZE, *pieces)
            if self._hash_of(chunk) not in (NO_HASH, chunk_hash):
                # A chunk that was lost, and whose hash nobody knew, came as something else this time.
                with self._digesting:
                    if chunk < self._prefix:
                        self._digest, self._prefix = ResumableSha256(), 0
            self._set_hash(chunk, chunk_hash)
            self.there.add(chunk)
            self._unsynced.add(chunk)
            partial_map.add(chunk, chunk_hash)
            if len(self._unsynced) >= _SYNC_CHUNKS:
                self._sync()
        self._feed(_FEED_CHUNKS, {chunk: pieces})
        return chunk_hash

    def read(self, chunk: int) -> bytes:
        """A chunk that is `there`.

        Raises:
          ChunkUnavailable: it is not what was written. It is not `there` any more.
        """
        data_file, partial_map = self._data, self._map
        if chunk not in self.there:
            raise ChunkUnavailable(f"chunk {chunk} of {self.path} has not come")
        if data_file is None or partial_map is None:
            raise ChunkUnavailable(f"{self.path} is not being written any more")
        try:
            data = data_file.read(chunk * CHUNK_SIZE, self.wanted.chunk_size(chunk))
        except OSError as error:
            raise ChunkUnavailable(f"{data_file.path} cannot be read: {error.strerror}") from error
        if hash_chunk(data) != self._hash_of(chunk):
            # Who else reads it at this moment may have found the same.
            self._wrong_count += chunk in self.there
            if self._wrong_count > _WRONG_MAX:
                self._problem = self._is_unreliable()
            self.there.discard(chunk)
            with contextlib.suppress(OSError):
                partial_map.drop(chunk)
            raise ChunkUnavailable(f"chunk {chunk} of {data_file.path} is not what was written there")
        return data

    def finish(self, sha256: str, report: Report) -> FileHashes:
        """All chunks were there: compare the sha256, and give the file its name.

        Raises:
          WrongContent: it is another file; what came is deleted, since going on would not help.
          FileInTheWay: something else has the name by now.
          SinkFull, SinkFailed: the disk does not take it, or did not give a chunk back as it was.
        """
        data_file, _ = self._files()
        with written_in(self.path.parent):
            while self._prefix < self.wanted.chunk_count:
                self._require_whole()
                self._feed(_FEED_CHUNKS)
                report(self._prefix * CHUNK_SIZE)
            self._require_whole()
            found = self._digest.hexdigest()
            if sha256 and found != sha256:
                self.discard()
                raise WrongContent(f"{self.path.name} should have the sha256 {sha256} and has {found}")
            self._sync()
            data_file.close()
            try:
                give_name(data_file.path, self.path)
            except FileExistsError:
                raise FileInTheWay(f"{self.path} is there already") from None
            fingerprint = Fingerprint.of_path(self.path)
        self._let_go(for_good=True)
        return FileHashes(self.path, fingerprint, bytes(self.hashes), found)

    def _require_whole(self) -> None:
        # Who reads a chunk meanwhile, for a peer, may be the one who finds that it is lost.
        if lost := self.wanted.chunk_count - len(self.there):
            raise SinkFailed(
                f"the disk of {self.path.parent} did not give back {lost} of the {self.wanted.chunk_count}"
                f" chunks of {self.path.name} as they were written: ordered again, they are fetched anew"
            )

    def discard(self) -> None:
        """Delete all that came."""
        self._let_go(for_good=True)

    def close(self) -> None:
        """Leave everything so that the next who opens it need not read it. Never fails: then he has to."""
        with contextlib.suppress(OSError):
            self._leave_in_order()
        self._let_go(for_good=False)

    def _leave_in_order(self) -> None:
        if self._data is None or self._map is None or self._problem or not self._map.is_ours():
            return
        self._data.sync()
        state = self._digest.state()
        left = LeftInOrder(self._data.fingerprint(), self._prefix if state else 0, state or b"")
        self._map.put_head(self._head(left))

    def _open(self, report: Report) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = PartialLock(beside(self.path, ".lock"))
        self._refuse_if_named()
        self._data = PositionedFile(beside(self.path))
        self._map = PartialMap(beside(self.path, ".map"))
        claims, left = self._claims(), self._left_in_order()
        self._data.resize(self.wanted.size_bytes)
        # Kept until each was looked at: who is struck down meanwhile has lost nothing.
        self._map.start(self._head(), claims)
        sync_folder(self.path.parent)
        if left is None:
            self._verify(claims, report)
        else:
            self._believe(claims, left)
        missing = self.wanted.size_bytes - sum(self.wanted.chunk_size(chunk) for chunk in self.there)
        try:
            require_room(self.path.parent, missing)
        except SinkFull:
            if not self.there:
                self._let_go(for_good=True)
            raise

    def _refuse_if_named(self) -> None:
        if not os.path.lexists(self.path):
            return
        partial = beside(self.path)
        with contextlib.suppress(FileNotFoundError):
            if partial.samefile(self.path):
                # Everything ended between giving it its name and taking the other one away.
                partial.unlink()
        raise FileInTheWay(f"{self.path} is there already")

    def _claims(self) -> bytes:
        """The hash of each chunk that may be there, of others zeros."""
        assert self._map is not None
        assert self._data is not None
        expected, nothing = self.wanted.hashes, NO_HASH * self.wanted.chunk_count
        claims, head = self._map.claims(self.wanted.size_bytes), self._map.head()
        if expected and claims is None:
            # There is no map, or a damaged one. The data may be good nevertheless.
            return expected if self._data.fingerprint().size_bytes else nothing
        if claims is None:
            return nothing
        if expected:
            chunks = range(self.wanted.chunk_count)
            same = (_slot(expected, chunk) == _slot(claims, chunk) for chunk in chunks)
            return b"".join(
                _slot(expected, chunk) if is_same else NO_HASH for chunk, is_same in enumerate(same)
            )
        return claims if head is not None and replace(head, left=None) == self._head() else nothing

    def _left_in_order(self) -> LeftInOrder | None:
        """How it was left, if nothing was written to it since."""
        assert self._map is not None
        assert self._data is not None
        head = self._map.head()
        if head is None or head.left is None or head.left.fingerprint != self._data.fingerprint():
            return None
        # A map that was cut off claims nothing by itself, and what the manifest says of data is to be seen.
        return head.left if self._map.claims(self.wanted.size_bytes) is not None else None

    def _believe(self, claims: bytes, left: LeftInOrder) -> None:
        for chunk in range(self.wanted.chunk_count):
            if _slot(claims, chunk) != NO_HASH:
                self._set_hash(chunk, _slot(claims, chunk))
                self.there.add(chunk)
        if self.there.issuperset(range(left.prefix)):
            digest = ResumableSha256.resume(left.state, min(left.prefix * CHUNK_SIZE, self.wanted.size_bytes))
            if digest is not None:
                self._digest, self._prefix = digest, left.prefix

    def _verify(self, claims: bytes, report: Report) -> None:
        """Count the chunks whose data is what `claims` says."""
        assert self._map is not None
        assert self._data is not None
        for chunk in range(self.wanted.chunk_count):
            claim = _slot(claims, chunk)
            if claim == NO_HASH:
                continue
            data = b""
            with contextlib.suppress(OSError):  # What cannot be read is not there.
                data = self._data.read(chunk * CHUNK_SIZE, self.wanted.chunk_size(chunk))
            if hash_chunk(data) == claim:
                self._set_hash(chunk, claim)
                self.there.add(chunk)
                self._feed(0, {chunk: [data]})
            else:
                self._map.drop(chunk)
            report(chunk * CHUNK_SIZE + self.wanted.chunk_size(chunk))

    def _feed(self, steps: int, at_hand: Mapping[int, Sequence[bytes]] | None = None) -> None:
        """Bring the sha256 on, with the chunks `at_hand` and up to `steps` others."""
        if self._data is None or not self._digesting.acquire(blocking=False):
            return  # Another thread is at it.
        try:
            while self._prefix in self.there:
                pieces = (at_hand or {}).get(self._prefix)
                if pieces is None:
                    if steps == 0:
                        break
                    steps -= 1
                    try:
                        pieces = [self.read(self._prefix)]
                    except ChunkUnavailable:
                        break  # It is not there any more, and who waits for it sees that.
                for piece in pieces:
                    self._digest.update(piece)
                self._prefix += 1
        finally:
            self._digesting.release()

    def _is_unreliable(self) -> str:
        return (
            f"the disk of {self.path.parent} does not give back what was written there: check it and the"
            " memory, see that no other program writes there, or use a home on another disk; then try again"
        )

    def _sync(self) -> None:
        """Return when the disk has all that was written.

        Raises:
          OSError: it has not, and what was written since the last time does not count any more: whatever is
            read back now comes from memory.
        """
        data_file, partial_map = self._files()
        batch = set(self._unsynced)
        try:
            data_file.sync()
        except OSError:
            self._problem = f"{data_file.path} could not be put on the disk"
            for chunk in sorted(batch):
                self.there.discard(chunk)
                with contextlib.suppress(OSError):
                    partial_map.drop(chunk)
            raise
        self._unsynced -= batch

    def _files(self) -> tuple[PositionedFile, PartialMap]:
        if self._data is None or self._map is None or self._problem:
            raise SinkFailed(self._problem or f"{self.path} is not being written any more")
        return self._data, self._map

    def _head(self, left: LeftInOrder | None = None) -> MapHead:
        # What the sha256 will tell needs no other proof: however a chunk of such a file came, it counts.
        version = "" if self.wanted.sha256 else self.wanted.version
        return MapHead(self.wanted.key, version, self.wanted.size_bytes, left)

    def _hash_of(self, chunk: int) -> bytes:
        return _slot(self.hashes, chunk)

    def _set_hash(self, chunk: int, chunk_hash: bytes) -> None:
        self.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE] = chunk_hash

    def _let_go(self, *, for_good: bool) -> None:
        data_file, partial_map, lock = self._data, self._map, self._lock
        self._data = self._map = self._lock = None
        for file in (data_file, partial_map):
            if file is not None:
                file.close()
        if lock is None:
            return
        partial = beside(self.path)
        with contextlib.suppress(OSError):  # A folder that became read-only keeps them, and they harm nobody.
            if for_good:
                partial.unlink(missing_ok=True)
            if not partial.exists():
                for_good = True
                beside(self.path, ".map").unlink(missing_ok=True)
        lock.release(for_good=for_good)


def _slot(hashes: bytes | bytearray, chunk: int) -> bytes:
    return bytes(hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE])
