"""What the HTTP side asks of whoever gets and removes the models of this node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """Which model is to be had, as LocalAI's clients say it."""

    reference: str
    """What `models pull` takes: a name in a gallery, `hf://`, `ollama://`, an address, a file, `demo`."""
    name: str = ""
    """What it is to be called; empty: as its source says."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings over those of its source, as in a model's YAML."""
    files: Sequence[Mapping[str, str]] = ()
    """More files, each `{"filename", "uri", "sha256"}`."""


@dataclass(frozen=True, slots=True)
class AvailableModels:
    """What the galleries offer."""

    models: Sequence[Mapping[str, Any]]
    """Each `{"name", "gallery", "description", "license", "tags", "urls", "installed"}`."""
    warnings: Sequence[str] = ()
    """Galleries that could not be read, and models of theirs that are left out; one line each."""


class ModelManager(Protocol):
    """Gets models, and removes them. Jobs are maps as `node/jobs/job.py` makes them."""

    def jobs_revision(self) -> int:
        """A number that rises whenever a job changed that gets a model."""

    async def jobs_changed(self, revision: int) -> None:
        """Wait until it is above `revision`."""

    def order_model(self, order: ModelOrder) -> Mapping[str, Any]:
        """The job that gets it.

        Raises:
          HttpError: it cannot be understood, or this node takes no models.
        """

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        """All that are known, the oldest first."""

    def job(self, job_id: str) -> Mapping[str, Any] | None:
        """That one; None: there is none, or not any more."""

    def cancel_job(self, job_id: str) -> bool:
        """End it; returns whether it had not ended.

        Raises:
          HttpError: others need what it does.
        """

    async def delete_model(self, name: str) -> Sequence[str]:
        """Serve a model no more, once nothing runs on it; returns the paths of the files that were deleted.

        Raises:
          HttpError: this node has none of that name, or a file cannot be deleted.
        """

    async def available_models(self) -> AvailableModels:
        """What the galleries offer.

        Raises:
          HttpError: no gallery can be read.
        """
