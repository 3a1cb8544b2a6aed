"""The jobs of a node between two runs: one JSON file. A damaged line costs nothing but history."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from node.home import write_private
from node.jobs.job import JOB_KINDS, JOB_STATES, Job

logger = logging.getLogger(__name__)

_SIZE_MAX = 4 * 2**20
"""Bytes. All jobs that are kept take some hundred kilobytes."""
_FIELDS = frozenset(each.name for each in fields(Job))


def read_jobs(path: Path) -> list[Job]:
    """The jobs in the file at `path`; none of a file that is not there or no use."""
    try:
        if path.stat().st_size > _SIZE_MAX:
            raise ValueError("it is larger than any that a node writes")
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [job for row in rows if (job := _job(row)) is not None]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("the file of jobs is of no use and starts anew: path=%s error=%s", path, error)
        return []


def write_jobs(path: Path, jobs: Iterable[Job]) -> None:
    """Keep `jobs`, whole or not at all.

    Raises:
      NodeError: the file cannot be written.
    """
    rows = [asdict(job) for job in jobs]
    write_private(path, json.dumps(rows, indent=1).encode())


def _job(row: Any) -> Job | None:  # noqa: ANN401 (whatever JSON says)
    """The job in `row`; None: it is none that this version can go on with."""
    if not isinstance(row, Mapping) or row.get("kind") not in JOB_KINDS or row.get("state") not in JOB_STATES:
        return None
    known = {name: value for name, value in row.items() if name in _FIELDS}
    try:
        job = Job(**{**known, "warnings": tuple(known.get("warnings", ()))})
    except TypeError:
        return None
    is_sound = all(isinstance(each, str) for each in (job.id, job.model, job.step, job.reason))
    is_sound &= all(isinstance(each, dict) for each in (job.order, job.sources))
    is_sound &= all(isinstance(each, int) for each in (job.size_bytes, job.done_bytes))
    return job if is_sound else None
