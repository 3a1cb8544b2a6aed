"""Bodies of LocalAI's calls that get models, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.body_types import Items, Name, Portable, Text
from api.errors import HttpError
from api.model_manager import ModelOrder

_REFERENCE_LENGTH_MAX = 2048
"""Characters: browsers and proxies cut longer addresses."""
_FILES_MAX = 1024
"""As many as a manifest has."""

Reference = Annotated[Text, Field(min_length=1, max_length=_REFERENCE_LENGTH_MAX)]


class OrderedFile(BaseModel):
    """One file besides those that the source names."""

    model_config = ConfigDict(strict=True, extra="ignore")

    filename: Name
    uri: Reference
    sha256: Annotated[Text, Field(pattern="^([0-9a-fA-F]{64})?$")] = ""


class ApplyBody(BaseModel):
    """Body of `/models/apply`: `id` names a gallery's model, `url` says where one is."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Reference | None = None
    url: Reference | None = None
    name: Name | None = None
    overrides: Annotated[dict[str, Any], Portable] = Field(default_factory=dict)
    files: Annotated[Items[OrderedFile], Field(max_length=_FILES_MAX)] = Field(default_factory=list)

    def order(self) -> ModelOrder:
        """This body as an order.

        Raises:
          HttpError: 400 if it names no model, or two.
        """
        if self.id and self.url:
            raise HttpError(400, "`id` and `url` each name a model: say one of them", param="url")
        if not (reference := self.id or self.url):
            raise HttpError(400, "name a model with `id` (of a gallery) or `url` (where it is)", param="id")
        return ModelOrder(
            reference, self.name or "", self.overrides, [file.model_dump() for file in self.files]
        )


class Applied(BaseModel):
    """LocalAI's answer to an order."""

    uuid: str
    status: str
    """Where to look how far it is."""


class JobState(BaseModel):
    """A job, as LocalAI's clients read it, and what else is known of it."""

    uuid: str
    processed: bool
    """It has ended, whichever way."""
    error: str | None
    message: str
    progress: float
    """Per cent."""
    file_name: str
    file_size: str
    """For a person, as `253.1 MB`."""
    downloaded_size: str
    gallery_element_name: str
    cancelled: bool
    job: dict[str, Any]
    """`{"id", "kind", "model", "state", "step", "size_bytes", "done_bytes", "sources", "speed", "eta", ...}`:
    bytes, seconds, and by whom how many bytes came."""


class AvailableModel(BaseModel):
    """One model of a gallery."""

    model_config = ConfigDict(extra="allow")

    name: str
    gallery: dict[str, str]
    description: str = ""
    license: str = ""
    tags: list[str] = Field(default_factory=list)
    urls: list[str] = Field(default_factory=list)
    installed: bool = False


def job_state(job: Mapping[str, Any]) -> dict[str, Any]:
    """`job` as `JobState`."""
    has_ended = job["state"] in ("done", "failed", "cancelled")
    return {
        "uuid": job["id"],
        "processed": has_ended,
        "error": job["reason"] or None,
        "message": "completed" if job["state"] == "done" else job["step"] or job["state"],
        "progress": round(100 * job["fraction"], 2),
        "file_name": job["model"],
        "file_size": _size(job["size_bytes"]),
        "downloaded_size": _size(job["done_bytes"]),
        "gallery_element_name": job["model"],
        "cancelled": job["state"] == "cancelled",
        "job": dict(job),
    }


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size_bytes} B"
        size /= 1000
    return f"{size:.1f} TB"
