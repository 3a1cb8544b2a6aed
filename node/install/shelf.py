"""The models that this node serves: adds, removes and replaces them.

One change of a model at a time: what one takes away, another must not be adding. What runs on a model ends
before its files go, which may take as long as an answer does; other models change meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import trio

from ledger.records import ModelName, ModelRecord
from node.install.errors import TakesNoModels
from node.install.model_notes import ModelNote, ModelNotes
from node.install.turns import Turns
from node.jobs.job import Job, JobId
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
        self._turns = Turns()
        """By name."""
        self._catalog_turn = trio.Lock()

    def jobs(self) -> Sequence[Job]:
        """What is being loaded and hashed."""
        return self._worker.jobs()

    def cancel_job(self, job_id: JobId) -> bool:
        """End one of them; returns whether there is one of that id.

        Raises:
          JobGoesOn: somebody waits for it.
        """
        return self._worker.cancel_job(job_id)

    def has(self, name: ModelName, sha256: str) -> bool:
        """Whether the model of that name is served, has these weights, and its files are there."""
        record = self._record(name)
        return record is not None and record.sha256 == sha256 and self._is_there(name)

    def from_source(self, source: FileKey) -> ModelName | None:
        """The model that is served, came from there, and whose files are there."""
        for record in self._worker.model_records():
            note = self.notes.of(record.name, record.sha256)
            if note.source == source and self._is_there(record.name):
                return record.name
        return None

    def placed(self) -> Mapping[ModelName, str]:
        """sha256 of each model that the swarm put here, and that is what it put here."""
        return {
            record.name: record.sha256
            for record in self._worker.model_records()
            if record.sha256 and self.notes.of(record.name, record.sha256).is_placed
        }

    def placed_bytes(self, *, besides: ModelName) -> int:
        """What such models take, also those that are not hashed yet, without one."""
        return sum(
            record.size_bytes
            for record in self._worker.model_records()
            if record.name != besides and self.notes.of(record.name, record.sha256).is_placed
        )

    def is_owned(self, name: ModelName) -> bool:
        """Whether there is a model of that name which, as far as is known, the swarm did not put here."""
        return name in self.catalog.definitions and name not in self.placed()

    async def claim(self, name: ModelName) -> None:
        """Somebody asked for what is here already: it is not for the swarm to take away any more."""
        record = self._record(name)
        note = self.notes.of(name, record.sha256 if record is not None else "")
        if note.is_placed:
            await self.notes.put(name, replace(note, is_placed=False))
            self._worker.on_change()

    async def add(self, source: str, *, copy: bool) -> ModelName:
        """Serve what is at `source` (a path, or `demo`) from now on.

        Raises: as `Catalog.add`.
        """
        name = await trio.to_thread.run_sync(self.catalog.name_of, source)
        async with self._turns.of([name]), self._catalog_turn:
            definition = await trio.to_thread.run_sync(lambda: self.catalog.add(source, copy=copy))
            self._worker.add_model(definition)
        return definition.name

    async def remove(self, name: ModelName) -> Sequence[Path]:
        """Serve it no more, once nothing runs on it; returns the files that were deleted. Cancelled while
        something runs: it is served as before.

        Raises:
          UnknownModel: there is none of that name.
          CannotStoreModel: a file could not be deleted.
        """
        async with self._turns.of([name]):
            try:
                # Its file could not be deleted the last time, and it is asked for again.
                with suppress(UnknownModel):
                    await self._worker.remove_model(name)
                # Not to be interrupted: what is not served any more must not be there after a restart.
                with trio.CancelScope(shield=True):
                    async with self._catalog_turn:
                        deleted = await trio.to_thread.run_sync(self.catalog.remove, name)
                        await self.notes.drop(name)
            except trio.Cancelled:
                self._serve_again(name)
                raise
        return deleted

    async def put(
        self, place: Callable[[], Awaitable[ModelDefinition]], note: ModelNote, name: ModelName
    ) -> None:
        """Serve what `place` puts where it belongs, instead of what has that name now, once nothing runs on
        that. It returns what is there then. Cancelled while something runs: the former model is served as
        before.

        Raises:
          TakesNoModels: the swarm wants it here, and its owner has another one of that name.
          Exception: what `place` raises; what is there is served then.
        """
        async with self._turns.of([name]):
            if note.is_placed and self.is_owned(name):
                raise TakesNoModels(f"there is another {name} here, which its owner put there")
            try:
                with suppress(UnknownModel):
                    await self._worker.remove_model(name)
                # Not to be interrupted: half of it would be found after a restart.
                with trio.CancelScope(shield=True):
                    async with self._catalog_turn:
                        definition = await place()
                        await self.notes.put(name, note)
            except BaseException:
                self._serve_again(name)
                raise
            self._worker.add_model(definition)

    def _serve_again(self, name: ModelName) -> None:
        """It was to go, and did not."""
        definition = self.catalog.definitions.get(name)
        if definition is not None and self._record(name) is None:
            self._worker.add_model(definition)

    def _record(self, name: ModelName) -> ModelRecord | None:
        return next((record for record in self._worker.model_records() if record.name == name), None)

    def _is_there(self, name: ModelName) -> bool:
        definition = self.catalog.definitions.get(name)
        return definition is not None and all(file.is_file() for file in definition.files)
