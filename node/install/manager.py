"""What commands, HTTP and the swarm's plan ask for: models ordered, deleted, looked up.

An order is a job, whoever gave it. What is wrong with it is said before there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from api.errors import HttpError
from api.model_manager import AvailableModels, ModelOrder
from ledger.records import ModelName, PlacementRecord
from node.errors import NodeError
from node.install.errors import TakesNoModels
from node.install.installer import Installer
from node.install.order import Order
from node.install.shelf import Shelf
from node.jobs.errors import JobGoesOn, TooManyJobs
from node.jobs.job import Job, JobId
from node.jobs.runner import Jobs, Report
from node.models.errors import BadModelName, UnknownModel
from node.sources.galleries import Galleries
from node.sources.gallery_index import GalleryFile
from node.sources.reference import parse_reference

_LISTED_MAX = 20_000
"""Models of all galleries together; LocalAI's has two thousand."""

OpenGalleries = Callable[[], AbstractAsyncContextManager[Galleries]]


class Manager:
    """A `ModelManager`, and the `Holdings` of the placer."""

    def __init__(
        self, jobs: Jobs, shelf: Shelf, open_galleries: OpenGalleries, *, models_size_max: int
    ) -> None:
        """`models_size_max`: bytes that the swarm may place here; 0: none."""
        self._jobs = jobs
        self._shelf = shelf
        self._open_galleries = open_galleries
        self._models_size_max = models_size_max

    def jobs_revision(self) -> int:
        return self._jobs.revision.number

    async def jobs_changed(self, revision: int) -> None:
        await self._jobs.revision.after(revision)

    def order(self, order: Order) -> Job:
        """The job that does it.

        Raises:
          BadReference, BadModelName: it names nothing.
          TooManyJobs: too many jobs wait.
        """
        order.wishes()
        shown = "" if order.is_placed else parse_reference(order.reference).canonical
        return self._jobs.add("install", order.name or shown, order.as_map())

    def order_model(self, order: ModelOrder) -> Mapping[str, Any]:
        files = [GalleryFile(each["filename"], each["uri"], each["sha256"].lower()) for each in order.files]
        try:
            return self.order(Order(order.reference, "", order.name, order.overrides, files)).as_map()
        except TooManyJobs as error:
            raise HttpError(429, str(error), type="rate_limit_error", retry_after=60) from error
        except BadModelName as error:
            raise HttpError(400, str(error), param="name") from error
        except NodeError as error:
            raise HttpError(400, str(error), param="url") from error

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        return [job.as_map() for job in (*self._jobs.jobs(), *self._shelf.jobs())]

    def job(self, job_id: str) -> Mapping[str, Any] | None:
        # What is loaded or hashed is gone from the list when it is done.
        found = {job.id: job for job in self._shelf.jobs()}
        job = self._jobs.get(JobId(job_id)) or found.get(JobId(job_id))
        return None if job is None else job.as_map()

    def fetched_fractions(self) -> Mapping[ModelName, float]:
        """How far each model is that is on its way here, 0 to 1."""
        running = [job for job in self._jobs.jobs() if job.state == "running" and job.kind == "install"]
        return {ModelName(job.model): job.fraction for job in running}

    def cancel(self, job_id: str) -> bool:
        """End a job; returns whether it had not ended.

        Raises:
          JobGoesOn: it cannot be ended now; says why.
        """
        return self._jobs.cancel(JobId(job_id)) or self._shelf.cancel_job(JobId(job_id))

    def cancel_job(self, job_id: str) -> bool:
        try:
            return self.cancel(job_id)
        except JobGoesOn as error:
            raise HttpError(409, str(error), code="job_goes_on") from error

    async def delete_model(self, name: str) -> Sequence[str]:
        try:
            return [str(path) for path in await self._shelf.remove(ModelName(name))]
        except UnknownModel as error:
            raise HttpError(404, str(error), param="name", code="model_not_found") from error
        except NodeError as error:
            raise HttpError(500, str(error), type="server_error") from error

    async def available_models(self) -> AvailableModels:
        return await offered_models(self._open_galleries, self._shelf.catalog.definitions)

    def placed(self) -> Mapping[ModelName, str]:
        return self._shelf.placed()

    async def fetch(self, placement: PlacementRecord) -> None:
        taken = self._shelf.placed_bytes(besides=placement.model)
        if taken + placement.size_bytes > self._models_size_max:
            raise TakesNoModels(f"{placement.model} and what the swarm put here before are too much together")
        job = self.order(Order("", placement.manifest, placement.model, is_placed=True))
        try:
            job = await self._jobs.wait_ended(job.id)
        except trio.Cancelled:
            self._jobs.cancel(job.id)
            raise
        if job.state != "done":
            raise NodeError(job.reason or f"somebody cancelled getting {placement.model}")

    async def give_up(self, model: ModelName) -> None:
        if self._shelf.is_owned(model):
            raise NodeError(f"{model} is its owner's by now")
        await self._shelf.remove(model)


async def perform(installer: Installer, report: Report) -> None:
    """Do what the order of a job says.

    Raises:
      UnreadableOrder: it cannot be told.
      NodeError, P2PError: as `Installer.install`.
    """
    await installer.install(Order.of_map(report.job.order), report)


async def offered_models(open_galleries: OpenGalleries, installed: Container[str]) -> AvailableModels:
    """What the galleries offer, as `ModelManager.available_models`; `installed`: what is here.

    Raises:
      HttpError: no gallery can be read, or the environment names no proxy or certificates that can be.
    """
    try:
        async with open_galleries() as galleries:
            listed = await galleries.listing()
    except NodeError as error:
        raise HttpError(502, str(error), type="server_error", code="no_gallery") from error
    models = [
        {
            "name": entry.name,
            "gallery": {"name": source.name},
            "description": entry.description,
            "license": entry.license,
            "tags": list(entry.tags),
            "urls": list(entry.urls),
            "installed": entry.name in installed,
        }
        for source, index in listed.indexes
        for entry in index.entries
    ]
    warnings = [*listed.warnings, *(warning for _, index in listed.indexes for warning in index.warnings)]
    return AvailableModels(models[:_LISTED_MAX], warnings)
