"""One job, as it is shown and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NewType, TypeAlias, get_args

JobId = NewType("JobId", str)

JobKind: TypeAlias = Literal["install", "hash", "load"]
"""install: a model is got and served. hash: a file that is here is read once. load: it goes into memory."""
JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
JOB_KINDS: tuple[JobKind, ...] = get_args(JobKind)
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
ENDED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, and how far it is."""

    id: JobId
    kind: JobKind
    model: str
    """Its name, as far as it is known; before that what it was asked for by."""
    order: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What whoever runs it needs to know, as JSON says it. It may hold a password, so it is kept and not
    shown."""
    state: JobState = "queued"
    step: str = ""
    """What it is doing, for a person."""
    size_bytes: int = 0
    """In all; 0 while that is not known."""
    done_bytes: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)
    """Bytes by whom they came from: a peer's name, `disk`, or the host of a download."""
    speed: float = 0.0
    """Bytes per second, of late."""
    eta: float | None = None
    """Seconds until it is done, at that speed; None: nobody knows."""
    reason: str = ""
    """Why it failed, for a person."""
    warnings: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def fraction(self) -> float:
        """How much of it is done, 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(self.done_bytes / self.size_bytes, 1.0) if self.size_bytes else 0.0

    def as_map(self) -> dict[str, Any]:
        """As it is shown, in JSON and msgpack."""
        shown = {name: value for name, value in asdict(self).items() if name != "order"}
        return {**shown, "warnings": list(self.warnings), "fraction": round(self.fraction, 4)}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, as whoever runs it says."""

    step: str
    size_bytes: int = 0
    done_bytes: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    """Its name, once it is known."""
    is_waiting: bool = False
    """Others have to do something first: until then it uses neither the network nor the disk."""
