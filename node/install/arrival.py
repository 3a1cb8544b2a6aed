"""The files of one model on their way, and how they become a model of this node.

    async with Arrival(store, catalog, folder, name) as arrival:
        partial = await arrival.open("model.gguf", wanted)      and fill it; one for each file
        await arrival.finish(make_settings)                     all are whole, and together a model
        await shelf.put(arrival.place, note, name)              served

    models/.arriving/tiny.gguf          finished, not yet in its place
    models/.arriving/.tiny.gguf.partial coming in

What belongs to the model that has that name now is left alone until `place`. However it is left before, what
came is kept, and the next one goes on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from ledger.records import ModelName
from node.models.catalog import Catalog, file_stem
from node.models.definition import ModelDefinition
from node.models.errors import BadModelFile
from node.store.disk import written_in
from node.store.fingerprint import Fingerprint
from node.store.hash_cache import FileHashes
from node.store.model_files import home_name, weights_sha256_of
from node.store.partial import PartialFile, open_partial
from node.store.partial_disk import WantedFile
from node.store.partial_files import take_back
from node.store.store import Store
from node.store.whole_file import sync_folder, write_whole
from p2p.blobs.manifest import FileKey

logger = logging.getLogger(__name__)

ARRIVING = ".arriving"
"""The folder, in that of the models: on the same disk, and hidden, so that nothing in it is served."""

MakeSettings = Callable[[Mapping[str, str]], bytes]
"""The YAML of a model, from what each of its files is called, by its name in the manifest."""


@dataclass(slots=True)
class _Arriving:
    """One file."""

    partial: PartialFile
    life: AsyncExitStack


class Arrival:
    """An async context manager. One task uses it, but for reading files that others add to."""

    def __init__(self, store: Store, catalog: Catalog, folder: Path, name: ModelName) -> None:
        """`folder`: that of the models."""
        self._store = store
        self._catalog = catalog
        self._folder = folder.absolute()
        self._name = name
        self._stem = file_stem(name)
        self._arriving: dict[str, _Arriving] = {}
        self._hashes: dict[str, FileHashes] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for arriving in self._arriving.values():
            await arriving.life.aclose()

    async def open(
        self, file: str, wanted: WantedFile, *, also_known_as: Collection[FileKey] = ()
    ) -> PartialFile:
        """Where `file`, as a manifest calls it, comes to lie; others may take from it from now on, by its key
        or by what it is `also_known_as`.

        Opened again as another one, what came before is thrown away.

        Raises:
          CannotStoreModel: in its place is a file of another model.
          PartialInUse, SinkFull, SinkFailed: as `open_partial`.
        """
        if (former := self._arriving.pop(file, None)) is not None:
            await former.life.aclose()
        path = self._folder / ARRIVING / home_name(file, self._stem)
        await trio.to_thread.run_sync(
            self._catalog.require_room_for, self._name, [path.name, self._yaml.name]
        )
        wanted = await trio.to_thread.run_sync(self._found_finished, path, wanted)
        async with AsyncExitStack() as stack:
            partial = await stack.enter_async_context(open_partial(path, wanted))
            for key in {wanted.key, *also_known_as}:
                stack.enter_context(self._store.growing(key, partial))
            self._arriving[file] = _Arriving(partial, stack.pop_all())
        return partial

    async def finish(self, make_settings: MakeSettings) -> None:
        """Compare every file's sha256, write the settings beside them, and see that it is a model.

        Raises:
          BadModelFile: it is none. What came is deleted: it would be none the next time.
          BadModelYaml: as `make_settings`.
          WrongContent, FileInTheWay, SinkFull, SinkFailed: as `PartialFile.finish`.
        """
        for file, arriving in sorted(self._arriving.items()):
            self._hashes[file] = await arriving.partial.finish()
        await trio.to_thread.run_sync(self._describe, make_settings)

    def weights_sha256(self) -> str:
        """Of what was finished, as `model_files.weights_sha256`."""
        return weights_sha256_of({file: hashes.sha256 for file, hashes in self._hashes.items()})

    async def place(self) -> ModelDefinition:
        """Give all files their places, for good. Cancelled: they have them.

        Raises: as `Catalog.take_in`.
        """
        with ExitStack() as stack:
            for arriving in self._arriving.values():
                stack.enter_context(arriving.partial.moving())
            return await trio.to_thread.run_sync(self._place)

    def _place(self) -> ModelDefinition:
        definition = self._catalog.take_in(self._yaml, [hashes.path for hashes in self._hashes.values()])
        cache = self._store.hasher.cache
        for file, hashes in self._hashes.items():
            # It is the same file, wherever it lies: nobody has to read it again, and peers go on reading.
            placed = replace(hashes, path=self._folder / hashes.path.name)
            self._arriving[file].partial.whole = placed
            cache.put(placed)
            cache.drop(hashes.path)
        sync_folder(self._folder)
        return definition

    @property
    def _yaml(self) -> Path:
        return self._folder / ARRIVING / f"{self._stem}.yaml"

    def _found_finished(self, path: Path, wanted: WantedFile) -> WantedFile:
        """`wanted`, with what is known of the file at `path`, if an earlier arrival finished it and did not
        place it. Another one is thrown away."""
        with written_in(path.parent):
            try:
                known = self._store.hasher.cache.get(path, Fingerprint.of_path(path))
            except FileNotFoundError:
                return wanted
            if known is None or not wanted.sha256 or known.sha256 != wanted.sha256:
                path.unlink()
                return wanted
        take_back(path)
        return replace(wanted, hashes=known.chunks)

    def _describe(self, make_settings: MakeSettings) -> None:
        for hashes in self._hashes.values():
            self._store.hasher.cache.put(hashes)
        with written_in(self._yaml.parent):
            write_whole(
                self._yaml, make_settings({file: hashes.path.name for file, hashes in self._hashes.items()})
            )
        try:
            self._catalog.inspect(self._yaml)
        except BadModelFile:
            for path in (self._yaml, *(hashes.path for hashes in self._hashes.values())):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    logger.warning("what is no model stays: path=%s error=%s", path, error)
            raise
