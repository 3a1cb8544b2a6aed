"""The models of an Ollama store, as they lie there.

    manifests/HOST/NAMESPACE/NAME/TAG      JSON: which blobs a model is made of
    blobs/sha256-...                       GGUF, projector, parameters; called by what is in it

A manifest is what Ollama's registry has too, so `node/sources/ollama.py` reads it. Its template is a Go
template, which is left aside: the model's own is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from node.errors import NodeError
from node.models.definition import ModelDefinition
from node.models.errors import BadModelFile, BadModelYaml
from node.models.model_file import inspect_model_files
from node.models.model_name import parse_model_name
from node.models.model_yaml import ModelSettings, parse_model_yaml
from node.sources.errors import SourceRefused
from node.sources.ollama import (
    MANIFEST_SIZE_MAX,
    PARAMS_SIZE_MAX,
    Layer,
    OllamaManifest,
    read_manifest,
    settings_of,
)
from node.sources.reference import NAMESPACE_DEFAULT, TAG_DEFAULT, OllamaReference

_USUAL_HOST = "registry.ollama.ai"


def is_ollama_store(folder: Path) -> bool:
    return (folder / "manifests").is_dir() and (folder / "blobs").is_dir()


def ollama_models(folder: Path, *, memory_bytes: int) -> Iterator[ModelDefinition | NodeError]:
    """Each model of the store at `folder`, or why one is none that can be served."""
    for path in sorted((folder / "manifests").glob("*/*/*/*")):
        if path.name[0] != "." and path.is_file():
            try:
                yield _model(folder, path, memory_bytes)
            except NodeError as error:
                yield error


def _model(folder: Path, path: Path, memory_bytes: int) -> ModelDefinition:
    *_, host, namespace, name, tag = path.parts
    reference = OllamaReference(name, namespace, tag, host="" if host == _USUAL_HOST else host)
    manifest = read_manifest(_read_json(path, MANIFEST_SIZE_MAX), reference=reference)
    weights, size_bytes, problem = _blob(folder, manifest.model), 0, ""
    try:
        size_bytes = inspect_model_files((weights,), memory_bytes=memory_bytes)
    except BadModelFile as error:
        problem = str(error)
    return ModelDefinition(
        parse_model_name(_name(reference)),
        weights,
        _settings(folder, manifest, source=str(path)),
        mmproj_path=_blob(folder, manifest.projector) if manifest.projector else None,
        size_bytes=size_bytes,
        expected_sha256=manifest.model.sha256,
        problem=problem,
    )


def _name(reference: OllamaReference) -> str:
    """As `ollama ls` has it, and people write it: without what is meant anyway."""
    path = [reference.name]
    if reference.host or reference.namespace != NAMESPACE_DEFAULT:
        path.insert(0, reference.namespace)
    if reference.host:
        path.insert(0, reference.host)
    tag = "" if reference.tag == TAG_DEFAULT else f":{reference.tag}"
    return "/".join(path) + tag


def _settings(folder: Path, manifest: OllamaManifest, *, source: str) -> ModelSettings:
    settings, warnings = ModelSettings(), list(manifest.warnings)
    if manifest.params is not None:
        try:
            params = settings_of(_read_json(_blob(folder, manifest.params), PARAMS_SIZE_MAX))
            settings = parse_model_yaml(yaml.safe_dump(params), source=source)
        except (BadModelYaml, SourceRefused) as error:
            # A number that is not possible here: the model answers all the same.
            warnings.append(str(error))
    return replace(settings, warnings=(*settings.warnings, *warnings))


def _blob(folder: Path, layer: Layer) -> Path:
    return folder / "blobs" / f"sha256-{layer.sha256}"


def _read_json(path: Path, size_max: int) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(size_max + 1)
        if len(data) > size_max:
            raise SourceRefused(f"{path} is larger than {size_max} bytes")
        return json.loads(data)
    except OSError as error:
        raise SourceRefused(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceRefused(f"{path} is not JSON") from error
