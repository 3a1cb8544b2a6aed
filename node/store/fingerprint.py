"""What changes when the content of a file does: its size, its time of change, its inode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file as it was at one moment. An equal one means that nobody wrote to it since."""

    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    @classmethod
    def of_path(cls, path: Path) -> Fingerprint:
        """Of the file at `path`, or that it links to.

        Raises:
          OSError: there is none, or it may not be looked at.
        """
        return cls.of(path.stat())
