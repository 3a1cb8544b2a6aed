"""Writing a file so that it is there whole or not at all, and so that it stays after a power cut.

Each platform's own ways are here: a folder cannot be fsynced on Windows, not every file system has links, and
macOS keeps what was fsynced in the drive's memory unless it is told otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, whose folder is made if it is missing.

    Raises:
      OSError: it could not be written; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes, or threads, may write the same file at once: each its own half.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.half")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Return when the file's content is on the disk.

    Raises:
      OSError: it cannot be put there, or part of it could not.
    """
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415 (it is not there on Windows)

        with contextlib.suppress(OSError):  # A network share may not know it.
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk, where the platform can say so."""
    if sys.platform == "win32":
        return  # A folder cannot be opened there; the rename is journalled by NTFS.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # A network share whose folders cannot be synced: the file itself was.
        return
    finally:
        os.close(descriptor)


def give_name(partial: Path, path: Path) -> None:
    """Call the finished file `partial` `path`, which nothing may be called already.

    Raises:
      FileExistsError: something is; nothing was changed.
      OSError: the folder cannot be written.
    """
    if sys.platform == "win32":
        partial.rename(path)  # It replaces nothing there.
    else:
        try:
            # A rename would replace what another program put there since somebody looked.
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:
            # No links on this file system: what is left is to look once more.
            if os.path.lexists(path):
                raise FileExistsError(f"{path} exists already") from None
            partial.rename(path)
        else:
            partial.unlink()
    sync_folder(path.parent)
