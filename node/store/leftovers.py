"""What downloads left that nobody went on with, thrown away after a while.

    models/.arriving/.NAME.partial  .NAME.partial.map  .NAME.partial.lock    what came of a file
    models/.arriving/NAME                                                    all of it, never put in its place
    manifests/3fa0...                                                        what was to come

Used by threads.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from node.store.errors import PartialInUse
from node.store.partial_files import beside, drop
from p2p.blobs.errors import BlobError

logger = logging.getLogger(__name__)

KEPT_TIME = 7 * 86400.0
"""Seconds after the last byte. Who cancelled a download, or had no room or no network for the rest, goes on
with it when he has: the next weekend, too. Much longer, and what everybody forgot fills the disk."""


def drop_leftovers(
    folder: Path, before: float, is_needed: Callable[[str], bool] = lambda name: False
) -> None:
    """Delete what was written in `folder` before that time, in seconds since 1970.

    Only plain files of the folder itself, nothing that somebody writes, and no NAME that `is_needed`. What
    cannot be deleted stays; the log says so.
    """
    for name, files in sorted(_files_by_name(folder).items()):
        path = folder / name
        try:
            if is_needed(name) or _last_written(path, files) >= before:
                continue
            size_bytes = sum(file.stat().st_size for file in files)
            drop(path)
            path.unlink(missing_ok=True)
        except (PartialInUse, FileNotFoundError):
            continue  # Somebody writes it, or has finished it or thrown it away meanwhile.
        except (OSError, BlobError) as error:
            logger.warning("what nobody went on with stays: path=%s error=%s", path, error)
        else:
            logger.info("nobody went on with it, so it is deleted: path=%s size_bytes=%s", path, size_bytes)


def _files_by_name(folder: Path) -> Mapping[str, Sequence[Path]]:
    """The plain files in `folder`, by what each is, or is to be, called in the end."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        if folder.is_symlink():
            return {}  # Whatever lies there, it is not ours.
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    found[_final_name(entry.name)].append(folder / entry.name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        logger.warning("what nobody went on with stays: path=%s error=%s", folder, error)
    return found


def _final_name(name: str) -> str:
    for suffix in ("", ".map", ".lock"):
        final = name[1:].removesuffix(f".partial{suffix}")
        if final.strip(".") and name == beside(Path(final), suffix).name:
            return final
    return name


def _last_written(path: Path, files: Sequence[Path]) -> float:
    """Seconds since 1970. That somebody had the lock says nothing, unless there is only that."""
    written = [file for file in files if file != beside(path, ".lock")]
    return max(file.stat().st_mtime for file in written or files)
