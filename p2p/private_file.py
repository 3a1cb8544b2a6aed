"""A file that only its owner may read, written whole or not at all.

Keys and the swarm's secret live in such files. A crash leaves the old content
or the new one, never half of either, and at no moment can another user of the
machine open it.

On Windows there are no mode bits: the file takes over the access list of its
folder, and the platform's data folder belongs to one user.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

PRIVATE_FILE_SIZE_MAX = 64 * 1024
"""Keys and memberships are under 4 KiB: anything larger is some other file, and is not read into memory."""


def write_private_file(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`.

    Raises:
      OSError: it could not be written (no such folder, disk full); `path` is as it was.
    """
    assert len(data) <= PRIVATE_FILE_SIZE_MAX
    # mkstemp creates with mode 0600 and refuses to follow or reuse what is there.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_private_file(path: Path) -> bytes:
    """The content of `path`, cut at one byte over `PRIVATE_FILE_SIZE_MAX`, so that a reader can tell.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(PRIVATE_FILE_SIZE_MAX + 1)


def _sync_folder(folder: Path) -> None:
    """Put the new name on disk too: without it a power cut may bring the old content back."""
    if sys.platform == "win32":
        return  # A folder cannot be opened there; the rename is journalled by NTFS.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
