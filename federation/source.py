"""Source: one peer's part of an answer, from the moment when it accepted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from federation.backend import Answer
from federation.balancer import Candidate
from federation.lease import Lease
from federation.room import Visit


@dataclass(slots=True)
class Source:
    """`held` ends it, and the lease with it."""

    candidate: Candidate
    lease: Lease
    answer: Answer
    held: AsyncExitStack
    visit: Visit
    asked_at: float
    accepted_at: float
