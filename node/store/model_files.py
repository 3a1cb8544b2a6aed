"""The files of a model as the swarm knows them: equal content has equal names, whatever it is called at home.

    model.gguf  or  model-00001-of-00003.gguf ...      the weights
    mmproj.gguf                                        the projector, where there is one
    model.yaml                                         settings that change what it answers

How a machine runs it (threads, layers on a GPU, kinds of cache) is that machine's business and stays at home,
and so does the name, which the ledger tells. So two who have the same model with the same template and
sampling have the same manifest. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ledger.records import ModelName
from node.models.definition import ModelDefinition
from node.models.model_yaml import YAML_SIZE_MAX, ModelSettings, parse_model_yaml
from node.models.split_files import PartName
from node.models.yaml_writer import write_yaml
from p2p.blobs.errors import BadManifest
from p2p.blobs.manifest import Manifest, ManifestFile, hash_chunk

SETTINGS = "model.yaml"
PROJECTOR = "mmproj.gguf"
_WEIGHTS = "model"
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed")


def canonical_names(definition: ModelDefinition) -> Iterator[tuple[str, Path]]:
    """Each file of a model but its settings, with what the swarm calls it."""
    yield from zip(weights_names(len(definition.parts)), definition.parts, strict=True)
    if definition.mmproj_path is not None:
        yield PROJECTOR, definition.mmproj_path


def home_name(canonical_name: str, stem: str) -> str:
    """What a file of a manifest is called at home, in the model whose files begin with `stem`."""
    if canonical_name == PROJECTOR:
        return f"{stem}.{PROJECTOR}"
    return f"{stem}{canonical_name.removeprefix(_WEIGHTS)}"


def weights_sha256(manifest: Manifest) -> str:
    """What a model's weights are known by (`weights_sha256_of`)."""
    return weights_sha256_of({file.name: file.sha256 for file in manifest.files})


def weights_sha256_of(files: Mapping[str, str]) -> str:
    """What a model's weights are known by, hexadecimal, from the sha256 of each of its files by name: that of
    their one file; of a split model the sha256 of the sha256s of all parts, since of two models the first
    parts may be equal. Empty while one of them is not known."""
    weights = [sha256 for name, sha256 in sorted(files.items()) if name not in (SETTINGS, PROJECTOR)]
    if len(weights) == 1 or not all(weights):
        return weights[0] if len(weights) == 1 else ""
    return hashlib.sha256(b"".join(map(bytes.fromhex, weights))).hexdigest()


def settings_file(settings: ModelSettings) -> bytes:
    """`model.yaml`; empty where nobody set anything that matters."""
    numbers = {name: getattr(settings.sampling, name) for name in _SAMPLING} | {
        "max_tokens": settings.max_tokens
    }
    document = {
        "parameters": {name: value for name, value in numbers.items() if value is not None},
        "context_size": settings.context_size,
        "stopwords": list(settings.stop),
        "template": {"chat": settings.chat_template} if settings.chat_template else {},
        "function": {"tool_format": settings.tool_format} if settings.tool_format else {},
    }
    document = {key: value for key, value in document.items() if value}
    return write_yaml(document) if document else b""


def settings_at_home(shared: bytes, name: ModelName, files: Mapping[str, str]) -> bytes:
    """The YAML to keep beside the model `name`, whose `model.yaml` is `shared`, perhaps empty.

    A peer wrote that one: nothing of it is taken but what `settings_file` says, above all no path.

    Args:
      files: what each file of its manifest is called at home, by canonical name.

    Raises:
      BadModelYaml: `shared` cannot be understood.
    """
    settings = parse_model_yaml(shared, source=SETTINGS)
    document: dict[str, Any] = yaml.safe_load(settings_file(settings)) or {}
    weights = min(file for file in files if file not in (SETTINGS, PROJECTOR))
    parameters = {**document.get("parameters", {}), "model": files[weights]}
    document = {"name": str(name), **document, "parameters": parameters}
    if PROJECTOR in files:
        document["mmproj"] = files[PROJECTOR]
    return write_yaml(document)


def require_model(manifest: Manifest) -> None:
    """Return if the files of `manifest`, which may come from a peer, are those of one model.

    Raises:
      BadManifest: they are not.
    """
    names = {file.name for file in manifest.files}
    weights = sorted(names - {SETTINGS, PROJECTOR})
    if not weights or weights != weights_names(len(weights)):
        raise BadManifest(f"its files are not those of one model: {', '.join(sorted(names)[:5])}")
    sizes = {file.name: file.size_bytes for file in manifest.files}
    if sizes.get(SETTINGS, 0) > YAML_SIZE_MAX:
        raise BadManifest(f"its settings take {sizes[SETTINGS]} bytes, {YAML_SIZE_MAX} are allowed")


def manifest_file_of(name: str, data: bytes) -> ManifestFile:
    """A file that is in memory, and fits one chunk."""
    return ManifestFile(name, len(data), hashlib.sha256(data).hexdigest(), hash_chunk(data))


def weights_names(count: int) -> list[str]:
    """What a manifest calls the weights of a model in `count` files."""
    if count == 1:
        return [f"{_WEIGHTS}.gguf"]
    return list(PartName(_WEIGHTS, 1, count).siblings)
