"""Where the files of a Hugging Face cache are.

models--ORG--REPO/refs/main             the revision that `main` was last
models--ORG--REPO/snapshots/REVISION/   files by their names: links, or the files themselves on Windows
models--ORG--REPO/blobs/                what they lead to
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_REVISION = re.compile(r"[0-9a-f]{40}")


def snapshots(folder: Path) -> Iterator[Path]:
    """Of each repository in the cache at `folder` its newest revision; none if it is no cache."""
    for repository in sorted(folder.glob("models--*")):
        snapshot = _main(repository) or _newest(repository)
        if snapshot is not None:
            yield snapshot


def _main(repository: Path) -> Path | None:
    try:
        with (repository / "refs" / "main").open(encoding="ascii") as file:
            revision = file.read(64).strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = repository / "snapshots" / revision
    return snapshot if _REVISION.fullmatch(revision) and snapshot.is_dir() else None


def _newest(repository: Path) -> Path | None:
    try:
        revisions = [path for path in (repository / "snapshots").iterdir() if path.is_dir()]
    except OSError:
        return None
    return max(revisions, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)
