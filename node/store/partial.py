"""A file that is coming in, chunk by chunk, and can be given on meanwhile.

    async with open_partial(path, wanted, on_progress) as partial:
        await partial.write(chunk, pieces)      as a fetch or a download brings them, in any order
        partial.offer                           for those who take what has come
        hashes = await partial.finish()         `path` is there now, whole

Left before that, it is gone on with by the next who opens it, after a crash too. All that touches the disk
happens in threads (`partial_disk.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from node.store.chunk_reader import read_chunk
from node.store.hash_cache import FileHashes
from node.store.hashing import OnProgress, ignore_progress
from node.store.partial_disk import PartialDisk, Report, WantedFile
from p2p.blobs.errors import BlobError, ChunkUnavailable
from p2p.blobs.have_map import HaveMap
from p2p.blobs.source import Offer
from p2p.revision import Revision


class PartialFile:
    """A `ChunkSink` with an `Offer`. Made by `open_partial`."""

    def __init__(self, disk: PartialDisk) -> None:
        self.path = disk.path
        """Where it will be."""
        self.wanted = disk.wanted
        self.have = HaveMap(disk.wanted.chunk_count)
        self.sha256 = disk.wanted.sha256
        """Hex; set by who learns it later, for instance from the origin."""
        self.changed = Revision()
        self.whole: FileHashes | None = None
        """Once it is finished, where it is now."""
        self._moved: trio.Event | None = None
        """Set when it has the name that it is being given."""
        self._disk = disk
        self._note_disk()

    @property
    def offer(self) -> Offer:
        """What can be given of it now."""
        return Offer(
            self.wanted.size_bytes,
            self.have,
            self._disk.hashes,
            self.sha256,
            is_growing=self.whole is None,
            changed=self.changed,
        )

    async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
        """Keep what `pieces` are together: all of that chunk, and compared with its hash, if that is known.

        Cancelled: it was kept or not, as `have` says.

        Raises:
          SinkFull: there is no room. What `have` says is kept.
          SinkFailed: the disk does not take it, or somebody else writes the same file. What `have` says
            is kept.
        """
        try:
            await trio.to_thread.run_sync(self._disk.write, chunk, pieces)
        except BlobError:
            self._note_disk()
            raise
        if self.have.add(chunk):
            self.changed.rise()

    async def read(self, chunk: int) -> bytes:
        """A chunk that came.

        Raises:
          ChunkUnavailable: it is not what was written, or cannot be read. `have` has not got it any more.
        """
        while True:
            whole = self.whole
            try:
                if whole is not None:
                    return await trio.to_thread.run_sync(read_chunk, whole, chunk)
                return await trio.to_thread.run_sync(self._disk.read, chunk)
            except ChunkUnavailable:
                if self._moved is None and self.whole is whole:
                    self._note_disk()
                    raise
            # It was given another name meanwhile: what peers were promised is there in a moment.
            if self._moved is not None:
                await self._moved.wait()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Within, the file is given another name: who reads it and does not find it waits for the end of
        that."""
        self._moved = moved = trio.Event()
        try:
            yield
        finally:
            self._moved = None
            moved.set()

    async def finish(self, on_progress: OnProgress = ignore_progress) -> FileHashes:
        """Compare the sha256, if it is known, and give the file its name: it is there now, on the disk.

        All chunks have to be there. Cancelled: all is as it was.

        Raises:
          WrongContent: all together they are another file. What came is deleted.
          FileInTheWay: something else has the name by now.
          SinkFull, SinkFailed: the disk does not take it.
        """
        with self.moving():
            try:
                hashes = await trio.to_thread.run_sync(
                    self._disk.finish, self.sha256, _from_thread(on_progress)
                )
            except BlobError:
                self._note_disk()
                raise
            self.sha256, self.whole = hashes.sha256, hashes
        self.changed.rise()
        return hashes

    async def discard(self) -> None:
        """Delete all that came."""
        await trio.to_thread.run_sync(self._disk.discard)

    def _note_disk(self) -> None:
        """Say what the disk has."""
        for chunk in range(self.wanted.chunk_count):
            if chunk in self._disk.there:
                self.have.add(chunk)
            else:
                self.have.discard(chunk)
        self.changed.rise()


@asynccontextmanager
async def open_partial(
    path: Path, wanted: WantedFile, on_progress: OnProgress = ignore_progress
) -> AsyncIterator[PartialFile]:
    """The file that will be at `path`, with what came of it before. However it is left, that is kept.

    Args:
      on_progress: told how many bytes were looked at, where all of it has to be, as after a crash.

    Raises:
      FileInTheWay: something is at `path`.
      PartialInUse: somebody else writes it.
      SinkFull, SinkFailed: the disk has no room for the rest, or does not let us write.
    """
    disk = await trio.to_thread.run_sync(PartialDisk, path.absolute(), wanted, _from_thread(on_progress))
    try:
        yield PartialFile(disk)
    finally:
        with trio.CancelScope(shield=True):  # At most 64 MiB are still to be written.
            await trio.to_thread.run_sync(disk.close)


def _from_thread(on_progress: OnProgress) -> Report:
    def report(done_bytes: int) -> None:
        trio.from_thread.check_cancelled()
        trio.from_thread.run_sync(on_progress, done_bytes)

    return report
