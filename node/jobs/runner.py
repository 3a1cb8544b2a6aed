"""Runs the jobs of a node, some at a time, and keeps them over restarts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from node.errors import NodeError
from node.jobs.board import Board
from node.jobs.job import Job, JobId, JobKind, JobState, Progress
from node.jobs.job_file import read_jobs, write_jobs
from p2p.errors import P2PError
from p2p.revision import Revision

logger = logging.getLogger(__name__)

_TIDY_INTERVAL = 86400.0
"""Seconds between two tidyings: what is tidied away has lain there for days."""
_SAVE_INTERVAL = 1.0
"""Seconds between two writings of the file: a crash then loses a second of orders."""


class Report:
    """How whoever runs a job says how far it is."""

    def __init__(self, job: Job, board: Board, revision: Revision) -> None:
        self.job = job
        self._board = board
        self._revision = revision

    def progress(self, progress: Progress) -> None:
        """It is that far. Cheap: called for every chunk."""
        self._board.note(self.job.id, progress, trio.current_time())
        self._revision.rise()

    def warn(self, warning: str) -> None:
        """A person should know."""
        logger.warning("%s: %s", self.job.model, warning)
        self._board.warn(self.job.id, warning)
        self._revision.rise()


class Jobs:
    """All jobs of this node."""

    def __init__(
        self,
        path: Path,
        perform: Callable[[Report], Awaitable[None]],
        tidy: Callable[[Sequence[Job]], Awaitable[None]],
    ) -> None:
        """`perform` does what a job's order says, and raises NodeError or P2PError where it cannot. `tidy`
        deletes what former jobs left, but for what those may need that it is given, which have not ended. No
        job begins meanwhile, and none is under way."""
        self.revision = Revision()
        """Rises whenever a job changed."""
        self._path = path
        self._perform = perform
        self._tidy = tidy
        self._board = Board()
        self._scopes: dict[JobId, trio.CancelScope] = {}

    def jobs(self) -> Sequence[Job]:
        """The oldest first."""
        return self._board.jobs()

    def get(self, job_id: JobId) -> Job | None:
        """That job; None: there is none, or not any more."""
        return self._board.get(job_id)

    def add(self, kind: JobKind, model: str, order: dict[str, Any]) -> Job:
        """A job for `order`, which waits for its turn; the one that is under way if there is such.

        Raises:
          TooManyJobs: there is none such, and far too many wait already.
        """
        job = self._board.add(JobId(secrets.token_hex(8)), kind, model, order)
        self.revision.rise()
        return job

    def cancel(self, job_id: JobId) -> bool:
        """End a job that has not ended; returns whether there was one."""
        job = self._board.get(job_id)
        if job is None or job.has_ended:
            return False
        if job_id in self._scopes:
            self._scopes[job_id].cancel()
        else:
            self._board.end(job_id, "cancelled")
        self.revision.rise()
        return True

    async def wait_ended(self, job_id: JobId) -> Job:
        """The job, once it has ended."""
        while True:
            number, job = self.revision.number, self._board.get(job_id)
            assert job is not None, "it is there as long as anybody asks at once"
            if job.has_ended:
                return job
            await self.revision.after(number)

    async def run(self) -> None:
        """Run jobs until cancelled; those that run then run again the next time."""
        self._board.restore(await trio.to_thread.run_sync(read_jobs, self._path))
        self.revision.rise()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep)
                tidy_at = trio.current_time()
                while True:
                    if not self._scopes and trio.current_time() >= tidy_at:
                        await self._tidy([job for job in self._board.jobs() if not job.has_ended])
                        tidy_at = trio.current_time() + _TIDY_INTERVAL
                    number, now = self.revision.number, trio.current_time()
                    while (job := self._board.next_to_begin(now)) is not None:
                        self._board.begin(job.id)
                        self._scopes[job.id] = trio.CancelScope()
                        nursery.start_soon(self._run, job)
                        self.revision.rise()
                    with trio.move_on_at(self._board.look_at(now) if self._scopes else tidy_at):
                        await self.revision.after(number)
        finally:
            # Short, and nobody else needs the loop any more.
            self._write(self._board.jobs())

    async def _run(self, job: Job) -> None:
        state: JobState = "done"
        reason = ""
        try:
            with self._scopes[job.id]:
                await self._perform(Report(job, self._board, self.revision))
        except (NodeError, P2PError) as error:
            state, reason = "failed", str(error)
            logger.warning("%s failed: %s", job.model, error)
        except Exception:  # One job's trouble, whatever it is, must not end the node, now and at each start.
            logger.exception("the job for %s failed", job.model)
            state, reason = "failed", "it failed in the node; its log says how"
        finally:
            was_cancelled = self._scopes.pop(job.id).cancelled_caught
        self._board.end(job.id, "cancelled" if was_cancelled else state, reason)
        self.revision.rise()

    async def _keep(self) -> None:
        """Write what changed."""
        while True:
            number = self.revision.number
            # In a thread: it waits for the disk.
            await trio.to_thread.run_sync(self._write, self._board.jobs())
            await trio.sleep(_SAVE_INTERVAL)
            await self.revision.after(number)

    def _write(self, jobs: Sequence[Job]) -> None:
        try:
            write_jobs(self._path, jobs)
        except NodeError as error:
            logger.warning("jobs are not kept for the next start: %s", error)
