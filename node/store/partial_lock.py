"""Who writes a partial file: one process at a time, as far as locks work where the file is."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from pathlib import Path

import filelock

from node.store.errors import PartialInUse

logger = logging.getLogger(__name__)

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""What network shares without locks answer."""


class PartialLock:
    """Held from now until `release`, or until this process ends.

    Raises:
      PartialInUse: somebody else holds it.
      OSError: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        # Not per thread: one opens, another closes. And no file that a crash leaves behind is a lock.
        self._lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
        self._path = path
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise PartialInUse(f"somebody else is writing {path.with_suffix('')}") from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            # Then the mark in the map is what tells two writers of each other.
            logger.warning("no locks there, so two nodes may write one file: path=%s error=%s", path, error)

    def release(self, *, for_good: bool) -> None:
        """Let others have it. `for_good`: there is nothing left to lock."""
        # Before it is released, where that can be: who waits for the file finds that it has no name any more.
        with contextlib.suppress(OSError):
            if for_good and sys.platform != "win32":
                self._path.unlink(missing_ok=True)
        self._lock.release()
        with contextlib.suppress(OSError):
            if for_good and sys.platform == "win32":
                self._path.unlink(missing_ok=True)
