"""The models that this node serves: adds, removes and replaces them, one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from ledger.records import ModelName
from node.install.model_notes import ModelNote, ModelNotes
from node.jobs.job import Job
from node.models.catalog import Catalog
from node.models.definition import ModelDefinition
from node.models.errors import UnknownModel
from node.worker import Worker
from p2p.blobs.manifest import FileKey


class Shelf:
    """Catalog, worker and notes, changed together."""

    def __init__(self, catalog: Catalog, worker: Worker, notes: ModelNotes) -> None:
        self.catalog = catalog
        self.notes = notes
        self._worker = worker
        self._turn = trio.Lock()
        """What one takes away, another must not be adding."""

    def jobs(self) -> Sequence[Job]:
        """What is being loaded and hashed."""
        return self._worker.jobs()

    def has(self, name: ModelName, sha256: str) -> bool:
        """Whether the model of that name is served, and has these weights."""
        return any(record.name == name and record.sha256 == sha256 for record in self._worker.model_records())

    def from_source(self, source: FileKey) -> ModelName | None:
        """The model that is served and came from there."""
        for name in self.catalog.definitions:
            if self.notes.source_of(name) == source:
                return name
        return None

    def placed(self) -> Mapping[ModelName, str]:
        """sha256 of each model that the swarm put here."""
        definitions = self.catalog.definitions
        return {name: sha256 for name, sha256 in self.notes.placed().items() if name in definitions}

    async def add(self, source: str, *, copy: bool) -> ModelName:
        """Serve what is at `source` (a path, or `demo`) from now on.

        Raises: as `Catalog.add`.
        """
        async with self._turn:
            definition = await trio.to_thread.run_sync(lambda: self.catalog.add(source, copy=copy))
            self._worker.add_model(definition)
        return definition.name

    async def own(self, name: ModelName) -> bool:
        """The owner of this node wants to have it, so the swarm takes it away no more; returns whether that
        is new.

        Raises:
          NodeError: it cannot be remembered.
        """
        async with self._turn:
            return await trio.to_thread.run_sync(self.notes.own, name)

    async def remove(self, name: ModelName) -> Sequence[Path]:
        """Serve it no more, once nothing runs on it; returns the files that were deleted.

        Raises:
          UnknownModel: there is none of that name.
          CannotStoreModel: a file could not be deleted.
        """
        async with self._turn:
            return await self._remove(name)

    async def put(self, place: Callable[[], ModelDefinition], note: ModelNote, name: ModelName) -> None:
        """Serve what `place` puts where it belongs, instead of what has that name now, once nothing runs on
        that. `place` runs in a thread, and returns what is there then.

        Raises: what `place` raises; the former model is gone then.
        """
        async with self._turn:
            if name in self.catalog.definitions:
                await self._remove(name)
            # Not to be interrupted: half of it would be found after a restart.
            with trio.CancelScope(shield=True):
                definition = await trio.to_thread.run_sync(place)
                await trio.to_thread.run_sync(self.notes.put, name, note)
                self._worker.add_model(definition)

    async def _remove(self, name: ModelName) -> Sequence[Path]:
        # Its file could not be deleted the last time, and it is asked for again.
        with suppress(UnknownModel):
            await self._worker.remove_model(name)
        # Not to be interrupted: a model that is not served any more must not be there after a restart.
        with trio.CancelScope(shield=True):
            deleted = await trio.to_thread.run_sync(self.catalog.remove, name)
            await trio.to_thread.run_sync(self.notes.drop, name)
        return deleted
