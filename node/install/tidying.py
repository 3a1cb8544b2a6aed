"""What orders left behind that nobody gave again, tidied up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from ledger.records import ModelName
from node.install.arrival import ARRIVING
from node.jobs.job import Job
from node.models.catalog import file_stem
from node.store.kept_manifests import KeptManifests
from node.store.leftovers import KEPT_TIME, drop_leftovers


async def tidy(models: Path, manifests: KeptManifests, unended: Sequence[Job]) -> None:
    """Delete what came in the folder of `models`, and the manifests, that nobody has used for `KEPT_TIME`.

    What a job that has not ended may need stays, however old it is. No job may begin meanwhile. Cancelled:
    some of it may be done.
    """
    before = time.time() - KEPT_TIME
    # A job knows the name of its model before anything comes. Of one whose name begins alike all stays, too.
    stems = tuple(file_stem(ModelName(job.model)) for job in unended)
    await trio.to_thread.run_sync(
        partial(drop_leftovers, models / ARRIVING, before, lambda name: name.startswith(stems))
    )
    if not unended:  # Which of the manifests a job needs is not known before it runs, and they are small.
        await manifests.drop_older(before)
