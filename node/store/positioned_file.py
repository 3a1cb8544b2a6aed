"""A file that threads read and write anywhere in it at once, and that is no link to another.

POSIX says where in the same call; on Windows there is one place per file, so a lock goes around both. Closing
waits for the threads that are at it: the number of a closed file is soon another file's.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.store.fingerprint import Fingerprint
from node.store.whole_file import sync


class LinkRefused(OSError):
    """Writing there would change a file somewhere else."""


class PositionedFile:
    """The file at `path`, made if it is missing, for who may use its folder.

    Raises:
      LinkRefused: it is a link, a second name of some other file, or no file at all.
      OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_symlink():
            raise LinkRefused(f"{path} is a link, and no file is written through one")
        # Windows has no O_NOFOLLOW; there the look before has to do.
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
        self._users = 0
        self._changed = threading.Condition()
        self._is_open = True
        self._place = threading.Lock()
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            self.close()
            raise LinkRefused(f"{path} is a second name of another file, or none at all")

    def read(self, offset: int, size_bytes: int) -> bytes:
        """The bytes from `offset` on; fewer where the file ends."""
        with self._open() as descriptor:
            data = self._read(descriptor, offset, size_bytes)
            while len(data) < size_bytes and (
                more := self._read(descriptor, offset + len(data), size_bytes - len(data))
            ):
                data += more
        return data

    def write(self, offset: int, *pieces: bytes) -> None:
        """Put all of `pieces` at `offset`, one behind the other."""
        with self._open() as descriptor:
            for piece in pieces:
                unwritten = memoryview(piece)
                while unwritten:
                    written = self._write(descriptor, offset, unwritten)
                    offset, unwritten = offset + written, unwritten[written:]

    def resize(self, size_bytes: int) -> None:
        """Make it that long: what is new is zeros, and takes no room where the file system can do that."""
        if self.fingerprint().size_bytes != size_bytes:
            with self._open() as descriptor:
                _make_sparse(descriptor)
                os.ftruncate(descriptor, size_bytes)

    def sync(self) -> None:
        """Return when all of it is on the disk."""
        with self._open() as descriptor:
            sync(descriptor)

    def fingerprint(self) -> Fingerprint:
        with self._open() as descriptor:
            return Fingerprint.of(os.fstat(descriptor))

    def is_at_its_path(self) -> bool:
        """Whether its name still leads to it."""
        try:
            with self._open() as descriptor:
                return os.path.samestat(self.path.lstat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of it. Every other call raises OSError from now on; this one may be repeated."""
        with self._changed:
            was_open, self._is_open = self._is_open, False
            self._changed.wait_for(lambda: not self._users)
        if was_open:
            os.close(self._descriptor)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Its descriptor, which stays open meanwhile."""
        with self._changed:
            if not self._is_open:
                raise OSError(errno.EBADF, "the file is closed")
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    if sys.platform == "win32":

        def _read(self, descriptor: int, offset: int, size_bytes: int) -> bytes:
            with self._place:
                os.lseek(descriptor, offset, os.SEEK_SET)
                return os.read(descriptor, size_bytes)

        def _write(self, descriptor: int, offset: int, data: memoryview) -> int:
            with self._place:
                os.lseek(descriptor, offset, os.SEEK_SET)
                return os.write(descriptor, data)

    else:

        def _read(self, descriptor: int, offset: int, size_bytes: int) -> bytes:
            return os.pread(descriptor, size_bytes, offset)

        def _write(self, descriptor: int, offset: int, data: memoryview) -> int:
            return os.pwrite(descriptor, data, offset)


def _make_sparse(descriptor: int) -> None:
    """NTFS fills all before a write with zeros unless it is told not to; others need not be told."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415 (the rest of it is not there elsewhere)
        import msvcrt  # noqa: PLC0415

        set_sparse, returned = 0x900C4, ctypes.c_ulong()
        # Whether it worked does not matter: without, the file only takes its room at once.
        ctypes.windll.kernel32.DeviceIoControl(
            ctypes.c_void_p(msvcrt.get_osfhandle(descriptor)),
            *(set_sparse, None, 0, None, 0, ctypes.byref(returned), None),
        )
