"""Which jobs there are, and what became of them. Reads no clock, runs nothing.

    queued --begin--> running --end--> done | failed | cancelled
       +------------cancel------------------------------^

One order is one job at a time: who asks for what is on its way already is shown that job. The latest that
ended are kept, for people to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node.jobs.job import Job, JobId, JobKind, JobState, Progress
from node.jobs.pace import Pace

ENDED_KEPT_MAX = 100
"""Jobs. What a person did this week fits on one page."""
UNENDED_MAX = 256
"""Jobs. A gallery has a thousand models, and nobody wants them all: a program that asks for ever is told."""


@dataclass(slots=True)
class Board:
    """All jobs, the oldest first."""

    _jobs: dict[JobId, Job] = field(default_factory=dict)
    _paces: dict[JobId, Pace] = field(default_factory=dict)

    def jobs(self) -> Sequence[Job]:
        return tuple(self._jobs.values())

    def get(self, job_id: JobId) -> Job | None:
        return self._jobs.get(job_id)

    @property
    def is_full(self) -> bool:
        return sum(not job.has_ended for job in self._jobs.values()) >= UNENDED_MAX

    def restore(self, jobs: Iterable[Job]) -> None:
        """Take in what an earlier run left; what was running then waits again."""
        for job in jobs:
            again = job if job.has_ended else replace(job, state="queued", speed=0.0, eta=None)
            self._jobs[job.id] = again
        self._prune()

    def add(self, job_id: JobId, kind: JobKind, model: str, order: dict[str, Any]) -> Job:
        """A new job, or the one that is about the same and has not ended."""
        for job in self._jobs.values():
            if job.kind == kind and job.order == order and not job.has_ended:
                return job
        job = self._jobs[job_id] = Job(job_id, kind, model, order)
        return job

    def next_queued(self) -> Job | None:
        """Which one to begin next."""
        return next((job for job in self._jobs.values() if job.state == "queued"), None)

    def begin(self, job_id: JobId) -> None:
        """Somebody runs it from now on."""
        self._jobs[job_id] = replace(self._jobs[job_id], state="running")
        self._paces[job_id] = Pace()

    def note(self, job_id: JobId, progress: Progress, now: float) -> None:
        """It is that far. Nothing happens if it has ended."""
        job = self._jobs.get(job_id)
        if job is None or job.state != "running":
            return
        pace = self._paces[job_id]
        pace.note(progress.done_bytes, now)
        speed = pace.speed(progress.done_bytes, now)
        left = progress.size_bytes - progress.done_bytes
        self._jobs[job_id] = replace(
            job,
            step=progress.step,
            model=progress.model or job.model,
            size_bytes=progress.size_bytes,
            done_bytes=progress.done_bytes,
            sources=dict(progress.sources),
            speed=speed,
            eta=left / speed if speed > 0 and progress.size_bytes else None,
        )

    def warn(self, job_id: JobId, warning: str) -> None:
        """Something that a person should know of it, once each."""
        job = self._jobs[job_id]
        if warning not in job.warnings:
            self._jobs[job_id] = replace(job, warnings=(*job.warnings, warning))

    def end(self, job_id: JobId, state: JobState, reason: str = "") -> None:
        """It has ended, as `state` says."""
        job = self._jobs[job_id]
        self._jobs[job_id] = replace(job, state=state, reason=reason, speed=0.0, eta=None)
        self._paces.pop(job_id, None)
        self._prune()

    def _prune(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.has_ended]
        for job_id in ended[: max(len(ended) - ENDED_KEPT_MAX, 0)]:
            del self._jobs[job_id]
