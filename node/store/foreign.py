"""Models in the folders of other programs: used in place, read only, never copied unless somebody asks.

    a folder of GGUFs, also nested         LM Studio, or one's own
    models--ORG--REPO/snapshots/...        a Hugging Face cache (`hugging_face_cache.py`)
    manifests/ and blobs/sha256-...        an Ollama store (`ollama_store.py`)

Which of them a folder is shows by what is in it. Nothing is written there, and what is not understood there
is none of our business: it is left out with a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from node.errors import NodeError
from node.models.definition import ModelDefinition
from node.store.gguf_folder import gguf_models
from node.store.hugging_face_cache import snapshots
from node.store.ollama_store import is_ollama_store, ollama_models


def foreign_models(folder: Path, *, memory_bytes: int) -> tuple[list[ModelDefinition], list[str]]:
    """The models in `folder`, and what a person should know of what is not one, a line each."""
    if not folder.is_dir():
        return [], [f"there is no folder {folder}"]
    definitions, warnings = [], []
    for found in _find(folder, memory_bytes):
        if isinstance(found, ModelDefinition):
            definitions.append(found)
        else:
            warnings.append(str(found))
    return definitions, warnings


def _find(folder: Path, memory_bytes: int) -> Iterator[ModelDefinition | NodeError | OSError]:
    if is_ollama_store(folder):
        yield from ollama_models(folder, memory_bytes=memory_bytes)
        return
    repositories = list(snapshots(folder))
    for repository in repositories or [folder]:
        yield from gguf_models(repository, memory_bytes=memory_bytes)
