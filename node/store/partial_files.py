"""The files in which a file comes in, where nobody has them open: named, thrown away, or made anew.

    models/.NAME.partial  .NAME.partial.map  .NAME.partial.lock         what they hold: `partial_disk.py`

Used by threads.
"""

from __future__ import annotations

from pathlib import Path

from node.store.disk import written_in
from node.store.partial_lock import PartialLock


def beside(path: Path, suffix: str = "") -> Path:
    """One of them. Hidden, so that no catalog takes it for a model."""
    return path.with_name(f".{path.name}.partial{suffix}")


def drop(path: Path) -> None:
    """Delete what came of the file that was to be at `path`.

    Raises:
      PartialInUse: somebody writes it.
      SinkFailed: the folder cannot be written.
    """
    with written_in(path.parent):
        if not path.parent.exists():
            return
        lock = PartialLock(beside(path, ".lock"))
        try:
            for suffix in ("", ".map"):
                beside(path, suffix).unlink(missing_ok=True)
        finally:
            lock.release(for_good=True)


def take_back(path: Path) -> None:
    """Make the finished file at `path` one that is coming in: what of it is wanted counts once it is opened.

    Raises:
      PartialInUse: somebody writes it.
      SinkFailed: the folder cannot be written.
    """
    with written_in(path.parent):
        lock = PartialLock(beside(path, ".lock"))
        try:
            # Where everything ended between its two names, they are one file, and a rename would do nothing.
            beside(path).unlink(missing_ok=True)
            beside(path, ".map").unlink(missing_ok=True)
            path.rename(beside(path))
        finally:
            lock.release(for_good=False)
