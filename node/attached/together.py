"""Our own engines and all attached servers as one backend.

Each model is served by the first member that has one of that name: our own before those of servers, servers
in the order in which they were given. So a name always means the same thing, and who loses is told of once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from federation.backend import Answer, Backend, InferenceRequest, ModelInfo
from federation.model_reference import ModelReference
from ledger.records import Load, ModelName, ModelRecord

logger = logging.getLogger(__name__)


class LocalBackend(Backend, Protocol):
    """What runs models for this node: a `Worker`, an `AttachedServer`, or several of them."""

    on_change: Callable[[], None]
    """Called when what `model_records` returns may have changed."""

    def model_records(self) -> list[ModelRecord]:
        """Every model, for the ledger."""

    def load(self) -> Mapping[ModelName, Load]:
        """How busy each model is now."""

    async def drain(self) -> None:
        """Refuse new requests from now on, and wait until none runs."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""


def _ignore_change() -> None:
    pass


class Together:
    """Several `LocalBackend`s as one. One task `run`s it, and them."""

    def __init__(self, members: Sequence[LocalBackend]) -> None:
        """At least one; the first that has a model serves it."""
        self.on_change: Callable[[], None] = _ignore_change
        self._members = members
        self._clashes: set[ModelName] = set()
        """Names that several models have now, each told of once."""
        for member in members:
            member.on_change = self._note_change

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as starting:
                for member in self._members:
                    starting.start_soon(nursery.start, member.run)
            task_status.started()

    def models(self) -> Sequence[ModelInfo]:
        """Every model once, sorted by name."""
        found = {info.name: info for member in reversed(self._members) for info in member.models()}
        return [found[name] for name in sorted(found)]

    def model_records(self) -> list[ModelRecord]:
        """The same for the ledger."""
        found: dict[ModelName, ModelRecord] = {}
        clashes: set[ModelName] = set()
        for member in self._members:
            for record in member.model_records():
                if found.setdefault(record.name, record) is not record:
                    clashes.add(record.name)
                    self._warn(found[record.name], record)
        self._clashes = clashes
        return [found[name] for name in sorted(found)]

    def load(self) -> Mapping[ModelName, Load]:
        """How busy each model is now."""
        return {name: load for member in reversed(self._members) for name, load in member.load().items()}

    async def drain(self) -> None:
        """Refuse new requests from now on, and wait until none runs. Cancelled: those are still refused."""
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(member.drain)

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Have the member serve `request` that has its model; see `Infers`."""
        name = ModelReference.parse(request.model).name
        # Nobody has it: the first says so.
        member = next((each for each in self._members if name in each.load()), self._members[0])
        async with member.infer(request) as answer:
            yield answer

    def _note_change(self) -> None:
        # Looked up each time: who listens may come after the members.
        self.on_change()

    def _warn(self, kept: ModelRecord, other: ModelRecord) -> None:
        if other.name not in self._clashes:
            logger.warning(
                "model %s is served by %s; the one of that name in %s is not",
                other.name,
                kept.program or "this node itself",
                other.program or "this node itself",
            )
