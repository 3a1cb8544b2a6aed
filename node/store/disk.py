"""What a disk says no with, told in the words of `p2p/blobs/errors.py`; and how much room it has."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.models.catalog import DISK_RESERVE
from node.store.positioned_file import LinkRefused
from p2p.blobs.errors import SinkFailed, SinkFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


@contextmanager
def written_in(folder: Path) -> Iterator[None]:
    """Within, files of `folder` are written.

    Raises:
      SinkFull: the disk is full, or what its owner may have of it is used up.
      SinkFailed: it does not take it: read-only, broken, gone, or too small a file system for such a file.
    """
    try:
        yield
    except LinkRefused as error:
        raise SinkFailed(str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise SinkFull(f"the disk of {folder} is full: make room, and it goes on from here") from error
        if error.errno == errno.EFBIG:
            raise SinkFailed(f"the file system of {folder} takes no file of that size") from error
        raise SinkFailed(f"{folder} cannot be written: {error.strerror}") from error


def require_room(folder: Path, size_bytes: int) -> None:
    """Return if `size_bytes` more leave the disk of `folder` with the reserve that everything else needs.

    Raises:
      SinkFull: they do not.
      OSError: the disk does not say.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes + DISK_RESERVE:
        raise SinkFull(
            f"the disk of {folder} has {free_bytes} bytes left: {size_bytes} more are needed, and"
            f" {DISK_RESERVE} stay free for everything else"
        )
