"""The models of this node: those it was started with, and those in its models folder.

    catalog = Catalog(home / "models", memory_bytes=...)
    catalog.read(given=["demo", "/data/tiny.gguf"])
    catalog.definitions         by name; a name is served once

The folder is plain files that a person recognises, and the only memory there is:
what `add` leaves there is found again after a restart. A file elsewhere is used in
place, through a YAML in the folder that names it, and never copied unless asked;
`remove` deletes nothing outside of the folder.

Everything here reads or writes files and blocks; `add` with `copy` for long.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ledger.records import ModelName
from node.models.definition import YAML_SUFFIXES, ModelDefinition, define_given, define_model
from node.models.errors import BadModelFile, BadModelName, CannotStoreModel, ModelNameTaken, UnknownModel
from node.models.model_file import require_memory
from node.models.yaml_writer import write_yaml
from p2p.blobs.errors import BadFileName
from p2p.blobs.file_name import check_file_name

DISK_RESERVE = 2**30
"""Bytes left free behind a model: a full disk also stops the ledger and everything else on it."""


class Catalog:
    """Which models this node has. One task uses it at a time."""

    def __init__(self, folder: Path, *, memory_bytes: int) -> None:
        self._folder = folder.absolute()
        self._memory_bytes = memory_bytes
        self._definitions: dict[ModelName, ModelDefinition] = {}
        self._warnings: list[str] = []

    @property
    def definitions(self) -> Mapping[ModelName, ModelDefinition]:
        return self._definitions

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know of the files that were read, one line each."""
        return tuple(self._warnings)

    def read(self, given: Iterable[str] = (), foreign: Iterable[ModelDefinition] = ()) -> list[ModelName]:
        """Find all models anew; returns the names of those in `given` (paths, or `demo`).

        Of two with one name, the one given first is served; then comes the folder, and then `foreign`, which
        are models in the folders of other programs.
        """
        self._definitions.clear()
        self._warnings.clear()
        names = []
        for text in given:
            try:
                definition = define_given(text, memory_bytes=self._memory_bytes)
            except BadModelName as error:
                self._warnings.append(f"{text!r}: {error}")
                continue
            if self._register(definition):
                names.append(definition.name)
        self._read_folder()
        for definition in foreign:
            self._register(definition)
        return names

    def add(self, source: str, *, copy: bool = False) -> ModelDefinition:
        """Make the model at `source` (a path, or `demo`) one of this node's, for good.

        A model that is one already is read anew.

        Raises:
          BadModelFile: it cannot be served; says why.
          BadModelName: nothing gives it a name it can have.
          ModelNameTaken: another file has its name.
          CannotStoreModel: the folder cannot be written, or the disk is too full for a copy.
        """
        definition = define_given(source, memory_bytes=self._memory_bytes)
        if definition.problem:
            raise BadModelFile(definition.problem)
        known = self._definitions.get(definition.name)
        if known is not None and not _is_same_file(known, definition):
            raise ModelNameTaken(f"{known.path} is called {definition.name} already")
        if not self._is_in_folder(definition.path):
            kept = known.yaml_path if known is not None and not copy else None
            if kept is not None and self._is_in_folder(kept):
                definition = define_model(kept, memory_bytes=self._memory_bytes)
            else:
                definition = self._store(definition, copy=copy)
        self._set(definition)
        return definition

    def name_of(self, source: str) -> ModelName:
        """What the model at `source` would be called.

        Raises:
          BadModelName: nothing gives it a name it can have.
        """
        return define_given(source, memory_bytes=self._memory_bytes).name

    def inspect(self, path: Path) -> ModelDefinition:
        """The model at `path`, which is none of ours yet.

        Raises:
          BadModelFile: it cannot be served; says why.
          BadModelName: its settings give it no name it can have.
        """
        definition = define_model(path, memory_bytes=self._memory_bytes)
        if definition.problem:
            raise BadModelFile(definition.problem)
        return definition

    def require_memory(self, what: str, size_bytes: int) -> None:
        """Return if this machine has the memory for a model of that size.

        Raises:
          ModelTooLarge: it has not; `what` is how the text calls it.
        """
        require_memory(what, size_bytes, memory_bytes=self._memory_bytes)

    def require_room_for(self, name: ModelName, files: Iterable[str]) -> None:
        """Return if files called so may come into the folder for the model `name`: over its own, and over
        nothing else.

        Raises:
          CannotStoreModel: another file is called so.
        """
        own = set(self._own_files(name))
        for path in (self._folder / file for file in files):
            if path not in own and os.path.lexists(path):
                raise CannotStoreModel(f"{path} is there already, and is no file of the model {name}")

    def take_in(self, yaml_path: Path, files: Iterable[Path]) -> ModelDefinition:
        """Move a model that lies in another folder of the same disk into this one, in place of the model that
        has its name. Its files keep their names, and nothing of it is read.

        The settings come first: what everything ends in the middle of names weights that are not there, or
        have another hash, and is put right by who brings them again.

        Raises:
          BadModelFile: what is there now cannot be served.
          CannotStoreModel: another file is called so, or one cannot be moved.
        """
        name = self.inspect(yaml_path).name
        coming = [yaml_path, *files]
        self.require_room_for(name, [path.name for path in coming])
        known, former = self._definitions.get(name), self._own_files(name)
        places = [self._folder / path.name for path in coming]
        try:
            for path, place in zip(coming, places, strict=True):
                path.replace(place)
            for path in former:
                if path not in places:
                    path.unlink(missing_ok=True)
        except OSError as error:
            if known is not None:
                self._set(define_model(known.yaml_path or known.path, memory_bytes=self._memory_bytes))
            raise CannotStoreModel(
                f"{error.filename} cannot be moved or deleted: {error.strerror}"
            ) from error
        definition = self.inspect(places[0])
        self._set(definition)
        return definition

    def remove(self, name: ModelName) -> Sequence[Path]:
        """Forget a model; returns the files that were deleted, all of them from the folder.

        Raises:
          UnknownModel: there is none of that name.
          CannotStoreModel: a file could not be deleted.
        """
        definition = self._definitions.get(name)
        if definition is None:
            raise UnknownModel(f"this node has no model {name}")
        deleted = self._own_files(name)
        try:
            for path in deleted:
                path.unlink()
        except OSError as error:
            raise CannotStoreModel(f"{error.filename} cannot be deleted: {error.strerror}") from error
        self._definitions = {other: known for other, known in self._definitions.items() if other != name}
        return deleted

    def _set(self, definition: ModelDefinition) -> None:
        # A new map: who goes through the old one, in another thread, goes through what was.
        self._definitions = {**self._definitions, definition.name: definition}

    def _own_files(self, name: ModelName) -> list[Path]:
        """Files of the folder that are of this model and of no other; none of a model that is not known."""
        definition = self._definitions.get(name)
        if definition is None:
            return []
        others = [other for other in self._definitions.values() if other is not definition]
        files = [definition.yaml_path] if definition.yaml_path is not None else []
        of_others = {file.resolve() for other in others for file in other.files}
        files += [file for file in definition.files if file.resolve() not in of_others]
        return [path for path in files if self._is_in_folder(path) and path.exists()]

    def _read_folder(self) -> None:
        """Register each YAML, then each GGUF file that none of them is about."""
        if not self._folder.is_dir():
            return
        # Hidden files are unfinished ones.
        paths = sorted(path for path in self._folder.iterdir() if path.is_file() and path.name[0] != ".")
        described: set[Path] = set()
        for path in sorted(paths, key=lambda path: path.suffix == ".gguf"):
            if path.suffix not in {*YAML_SUFFIXES, ".gguf"} or path in described:
                continue
            try:
                definition = define_model(path, memory_bytes=self._memory_bytes)
            except BadModelName as error:
                self._warnings.append(f"{str(path)!r}: {error}")
                continue
            described.update(definition.files)
            self._register(definition)

    def _register(self, definition: ModelDefinition) -> bool:
        known = self._definitions.get(definition.name)
        if known is None:
            self._definitions[definition.name] = definition
            self._warnings += definition.settings.warnings
        elif not _is_same_file(known, definition):
            self._warnings.append(
                f"{definition.path} is not served: {known.path} is called {definition.name} already"
            )
        return known is None

    def _is_in_folder(self, path: Path) -> bool:
        # The parent, not the file: a link in the folder is the folder's, what it points to is not.
        return path.parent.resolve().is_relative_to(self._folder.resolve())

    def _store(self, definition: ModelDefinition, *, copy: bool) -> ModelDefinition:
        """Put the files, or a YAML that names them, into the folder."""
        stem = file_stem(definition.name)
        yaml_path = self._folder / f"{stem}.yaml"
        copies = {file: self._folder / f"{stem}{suffix}" for file, suffix in _suffixes(definition)}
        for path in (yaml_path, *copies.values()):
            if path.exists():
                raise CannotStoreModel(f"{path} exists already")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if copy:
                _copy(copies)
            document = _settings_document(definition, copies if copy else {})
            _replace(yaml_path, write_yaml(document))
        except OSError as error:
            raise CannotStoreModel(f"{self._folder} cannot be written: {error.strerror}") from error
        return define_model(yaml_path, memory_bytes=self._memory_bytes)


_UNFIT_FOR_FILES = re.compile(r'[\\/:*?"<>|]')
"""What Windows, the strictest, refuses in a file's name."""


def file_stem(name: ModelName) -> str:
    """What the files of a model of that name are called in the models folder, without suffixes."""
    stem = _UNFIT_FOR_FILES.sub("_", name)
    try:
        check_file_name(f"{stem}.gguf")
    except BadFileName:
        return f"_{stem}"  # It would be hidden, as unfinished files are, or a device on Windows.
    return stem


def _suffixes(definition: ModelDefinition) -> Iterator[tuple[Path, str]]:
    """Each of its files, and how a copy's name ends."""
    for number, file in enumerate(definition.parts, 1):
        count = len(definition.parts)
        yield file, f"-{number:05}-of-{count:05}.gguf" if count > 1 else ".gguf"
    if definition.mmproj_path is not None:
        yield definition.mmproj_path, ".mmproj.gguf"


def _is_same_file(one: ModelDefinition, other: ModelDefinition) -> bool:
    return one.path.resolve() == other.path.resolve()


def _settings_document(definition: ModelDefinition, copies: Mapping[Path, Path]) -> dict[str, Any]:
    """The YAML to keep: what the person wrote, with the name, the files and our own template filled in."""
    document: dict[str, Any] = {}
    if definition.yaml_path is not None:
        document = yaml.safe_load(definition.yaml_path.read_bytes()) or {}
    parameters = {
        **(document.get("parameters") or {}),
        "model": str(copies.get(definition.path, definition.path)),
    }
    document = {**document, "name": str(definition.name), "parameters": parameters}
    if (mmproj := definition.mmproj_path) is not None:
        document["mmproj"] = str(copies.get(mmproj, mmproj))
    if definition.settings.chat_template:
        document["template"] = {
            **(document.get("template") or {}),
            "chat": definition.settings.chat_template,
        }
    return document


def _copy(copies: Mapping[Path, Path]) -> None:
    """Each file to where it belongs, or none of them."""
    folder = next(iter(copies.values())).parent
    free_bytes = shutil.disk_usage(folder).free
    size_bytes = sum(source.stat().st_size for source in copies)
    if free_bytes < size_bytes + DISK_RESERVE:
        raise CannotStoreModel(f"{folder} has {free_bytes} bytes left, too few for {size_bytes} more")
    # Not `.partial`, which is what a file is called that comes in bit by bit, and goes on after a restart.
    halves = {target.with_name(f".{target.name}.copy"): target for target in copies.values()}
    try:
        for source, half in zip(copies, halves, strict=True):
            shutil.copyfile(source, half)
        for half, target in halves.items():
            half.replace(target)
    finally:
        for half in halves:
            half.unlink(missing_ok=True)


def _replace(target: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    half = target.with_name(f".{target.name}.copy")
    half.write_bytes(content)
    half.replace(target)
