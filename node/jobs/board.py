"""Which jobs there are, which is to begin next, and what became of them. Reads no clock, runs nothing.

    queued --begin--> running --end--> done | failed | cancelled
       +------------cancel------------------------------^

One order is one job at a time: who asks for what is on its way already is shown that job. The latest that
ended are kept, for people to look at.

A few run at a time, and those that only wait for others do not count: whatever they wait for, the next one
begins. Who waited goes on at once when it comes, so for a while more may run than would have been begun: a
transfer that could go on is not held up for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node.jobs.errors import TooManyJobs
from node.jobs.job import Job, JobId, JobKind, JobState, Progress
from node.jobs.pace import Pace

RUNNING_MAX = 2
"""Jobs at a time, without those that wait. One large model must not keep a small one waiting; more only share
the same network."""
BEGUN_MAX = 32
"""Jobs, with those that wait: each may have three files open for each of its model's, and a process may have
256 on some systems."""
WAIT_MAX = 5.0
"""Seconds for which a job that waits counts as running. Every job waits for a moment now and then, until a
peer answers for instance, and if the next one began each time, all would run at once."""
ENDED_KEPT_MAX = 100
"""Jobs. What a person did this week fits on one page."""
UNENDED_MAX = 256
"""Jobs. A gallery has a thousand models, and nobody wants them all: a program that asks for ever is told."""


@dataclass(slots=True)
class Board:
    """All jobs, the oldest first."""

    _jobs: dict[JobId, Job] = field(default_factory=dict)
    _ended: list[JobId] = field(default_factory=list)
    """Which of them have ended, the first one first."""
    _paces: dict[JobId, Pace] = field(default_factory=dict)
    """Of those that were begun."""
    _waiting: dict[JobId, float] = field(default_factory=dict)
    """Which of them wait, and since when."""

    def jobs(self) -> Sequence[Job]:
        return tuple(self._jobs.values())

    def get(self, job_id: JobId) -> Job | None:
        return self._jobs.get(job_id)

    def restore(self, jobs: Iterable[Job]) -> None:
        """Take in what an earlier run left; what was running then waits again."""
        for job in jobs:
            again = job if job.has_ended else replace(job, state="queued", speed=0.0, eta=None)
            self._jobs[job.id] = again
            if job.has_ended:
                self._note_ended(job.id)

    def add(self, job_id: JobId, kind: JobKind, model: str, order: dict[str, Any]) -> Job:
        """A new job, or the one that is about the same and has not ended.

        Raises:
          TooManyJobs: there is none such, and far too many wait already.
        """
        unended = [job for job in self._jobs.values() if not job.has_ended]
        for job in unended:
            if job.kind == kind and job.order == order:
                return job
        if len(unended) >= UNENDED_MAX:
            raise TooManyJobs(f"{UNENDED_MAX} jobs wait already: cancel some, or ask again later")
        job = self._jobs[job_id] = Job(job_id, kind, model, order)
        return job

    def next_to_begin(self, now: float) -> Job | None:
        """Which one to begin next; None: none is queued, or enough run."""
        if len(self._paces) >= BEGUN_MAX or self._running(now) >= RUNNING_MAX:
            return None
        return next((job for job in self._jobs.values() if job.state == "queued"), None)

    def look_at(self, now: float) -> float:
        """When to ask again what to begin next, unless something changes first."""
        times = [since + WAIT_MAX for since in self._waiting.values() if since + WAIT_MAX > now]
        return min(times, default=math.inf)

    def begin(self, job_id: JobId) -> None:
        """Somebody runs it from now on."""
        self._jobs[job_id] = replace(self._jobs[job_id], state="running")
        self._paces[job_id] = Pace()

    def note(self, job_id: JobId, progress: Progress, now: float) -> None:
        """It is that far. Nothing happens if it has ended."""
        job = self._jobs.get(job_id)
        if job is None or job.state != "running":
            return
        if progress.is_waiting:
            self._waiting.setdefault(job_id, now)
        else:
            self._waiting.pop(job_id, None)
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
        self._waiting.pop(job_id, None)
        self._note_ended(job_id)

    def _running(self, now: float) -> int:
        return len(self._paces) - sum(since + WAIT_MAX <= now for since in self._waiting.values())

    def _note_ended(self, job_id: JobId) -> None:
        self._ended.append(job_id)
        if len(self._ended) > ENDED_KEPT_MAX:
            del self._jobs[self._ended.pop(0)]
