"""The GGUF models in a folder and the folders in it, as other programs lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from node.models.definition import ModelDefinition, define_model
from node.models.errors import BadModelName
from node.models.split_files import parts_of

_DEPTH_MAX = 6
"""Folders in folders: LM Studio has two, Hugging Face's repositories three. More is somebody's whole disk."""
_ENTRIES_MAX = 100_000
"""Files and folders that are looked at: some seconds of a slow disk."""


def gguf_models(folder: Path, *, memory_bytes: int) -> Iterator[ModelDefinition | BadModelName | OSError]:
    """Each model, or why one is none that can have a name, or why some folder cannot be read.

    A projector (`mmproj` in its name) is no model; it belongs to all models beside it, if it is the only one.
    """
    problems: list[OSError] = []
    left = _ENTRIES_MAX
    # Links to folders are not followed: they may lead back.
    for place, folders, files in os.walk(folder, onerror=problems.append):
        left -= len(folders) + len(files)
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if name[0] != "." and depth < _DEPTH_MAX and left > 0)
        yield from _models_of(Path(place), sorted(files), memory_bytes)
    if left <= 0:
        yield OSError(f"{folder} has more than {_ENTRIES_MAX} files: not all of it was looked at")
    yield from problems


def _models_of(folder: Path, files: list[str], memory_bytes: int) -> Iterator[ModelDefinition | BadModelName]:
    # Hidden files are unfinished ones.
    names = [name for name in files if name.endswith(".gguf") and name[0] != "."]
    projectors = [name for name in names if "mmproj" in name.lower()]
    seen: set[Path] = set()
    for name in names:
        path = folder / name
        if name in projectors or path in seen:
            continue
        try:
            definition = define_model(path, memory_bytes=memory_bytes)
        except BadModelName as error:
            yield error
            continue
        seen.update(parts_of(path))
        if definition.mmproj_path is None and len(projectors) == 1:
            definition = replace(definition, mmproj_path=folder / projectors[0])
        yield definition
