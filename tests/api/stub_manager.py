"""A node whose models come as a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from api.errors import HttpError
from api.model_manager import AvailableModels, ModelOrder
from p2p.revision import Revision

JOB: Mapping[str, Any] = {
    "id": "7f3a",
    "kind": "install",
    "model": "tiny",
    "state": "running",
    "step": "fetching",
    "size_bytes": 253_100_000,
    "done_bytes": 126_550_000,
    "fraction": 0.5,
    "sources": {"attic": 126_550_000},
    "speed": 1e8,
    "eta": 1.27,
    "reason": "",
    "warnings": [],
}


@dataclass
class StubManager:
    """Takes every order, and has `JOB` to show."""

    orders: list[ModelOrder] = field(default_factory=list)
    known: dict[str, Mapping[str, Any]] = field(default_factory=lambda: {"7f3a": JOB})
    models: set[str] = field(default_factory=lambda: {"org/tiny"})
    needed: str = ""
    """Why no job can be cancelled."""
    revision: Revision = field(default_factory=Revision)
    warnings: list[str] = field(default_factory=list)

    def jobs_revision(self) -> int:
        return self.revision.number

    async def jobs_changed(self, revision: int) -> None:
        await self.revision.after(revision)

    def order_model(self, order: ModelOrder) -> Mapping[str, Any]:
        if order.reference.startswith("ftp:"):
            raise HttpError(400, "nothing can be had by ftp", param="url")
        self.orders.append(order)
        return JOB

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        return list(self.known.values())

    def job(self, job_id: str) -> Mapping[str, Any] | None:
        return self.known.get(job_id)

    def cancel_job(self, job_id: str) -> bool:
        if self.needed:
            raise HttpError(409, self.needed, code="job_goes_on")
        if self.known[job_id]["state"] != "running":
            return False
        if self.known[job_id]["kind"] == "install":
            self.change(state="cancelled")
        else:
            del self.known[job_id]
        return True

    async def delete_model(self, name: str) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if name not in self.models:
            raise HttpError(404, f"this node has no model {name}", param="model", code="model_not_found")
        self.models.remove(name)
        return [f"models/{name}.gguf"]

    async def available_models(self) -> AvailableModels:
        await trio.lowlevel.checkpoint()
        model = {"name": "tiny", "gallery": {"name": "home"}, "tags": ["chat"], "installed": True}
        return AvailableModels([model], self.warnings)

    def change(self, **values: Any) -> None:
        self.known["7f3a"] = {**self.known["7f3a"], **values}
        self.revision.rise()
