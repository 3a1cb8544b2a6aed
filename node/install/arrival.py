"""The files of one model on their way, and how they become a model of this node.

    async with Arrival(store, folder, name) as arrival:
        partial = await arrival.open("model.gguf", wanted)      and fill it; one for each file
        await arrival.finish()                                  all are whole, each with its sha256
        await shelf.put(arrival.place(settings), note, name)    served

What belongs to the model that has that name now is left alone until `place`. However it is left before, what
came is kept, and the next one goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.records import ModelName
from node.models.catalog import file_stem
from node.models.definition import ModelDefinition
from node.store.disk import written_in
from node.store.hash_cache import FileHashes
from node.store.hashing import OnProgress
from node.store.model_files import home_name, weights_sha256_of
from node.store.partial import PartialFile, open_partial
from node.store.partial_disk import WantedFile
from node.store.store import Store
from node.store.whole_file import write_whole

MakeSettings = Callable[[Mapping[str, str]], bytes]
"""The YAML of a model, from what each of its files is called, by its name in the manifest."""


@dataclass(slots=True)
class _Arriving:
    """One file."""

    path: Path
    """Where it belongs."""
    partial: PartialFile
    life: AsyncExitStack


class Arrival:
    """An async context manager. One task uses it, but for reading files that others add to."""

    def __init__(self, store: Store, folder: Path, name: ModelName) -> None:
        self._store = store
        self._folder = folder
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
        self, file: str, wanted: WantedFile, on_progress: OnProgress = lambda done_bytes: None
    ) -> PartialFile:
        """Where `file`, as a manifest calls it, comes to lie; others may take from it from now on.

        Opened again as another one, what came before is thrown away.

        Raises: as `open_partial`.
        """
        if (former := self._arriving.pop(file, None)) is not None:
            await former.life.aclose()
        path = self._folder / home_name(file, self._stem)
        hidden = path.with_name(f".{path.name}.new")
        async with AsyncExitStack() as stack:
            arriving = hidden if path.exists() else path
            partial = await stack.enter_async_context(open_partial(arriving, wanted, on_progress))
            stack.enter_context(self._store.growing(wanted.key, partial))
            self._arriving[file] = _Arriving(path, partial, stack.pop_all())
        return partial

    async def finish(self) -> None:
        """Compare every file's sha256.

        Raises: as `PartialFile.finish`.
        """
        for file, arriving in sorted(self._arriving.items()):
            self._hashes[file] = await arriving.partial.finish()

    def weights_sha256(self) -> str:
        """Of what was finished, as `model_files.weights_sha256`."""
        return weights_sha256_of({file: hashes.sha256 for file, hashes in self._hashes.items()})

    def place(
        self, make_settings: MakeSettings, add: Callable[[str], ModelDefinition]
    ) -> Callable[[], ModelDefinition]:
        """What gives all files their names and writes the settings beside them, for a thread to do."""

        def place() -> ModelDefinition:
            names = {file: arriving.path.name for file, arriving in self._arriving.items()}
            yaml_path = self._folder / f"{self._stem}.yaml"
            with written_in(self._folder):
                for file, arriving in self._arriving.items():
                    if arriving.partial.path != arriving.path:
                        arriving.partial.path.replace(arriving.path)
                    # It is the same file, whatever it is called: nobody has to read it again.
                    self._store.hasher.cache.put(replace(self._hashes[file], path=arriving.path))
                write_whole(yaml_path, make_settings(names))
            return add(str(yaml_path))

        return place
