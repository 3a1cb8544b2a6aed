"""A model of an Ollama registry: its manifest, and what its layers become here. Pure.

GET /v2/NAMESPACE/NAME/manifests/TAG      {"layers": [{"mediaType", "digest": "sha256:...", "size"}, ...]}
GET /v2/NAMESPACE/NAME/blobs/DIGEST       one layer; leads to another host

application/vnd.ollama.image.model        the GGUF file
application/vnd.ollama.image.projector    mmproj.gguf
application/vnd.ollama.image.params       JSON: stop, temperature, num_ctx, ...   -> settings
application/vnd.ollama.image.template     a Go template: the model's own is used here
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.sources.errors import SourceRefused, UnsuitableModel
from node.sources.reference import OllamaReference
from node.sources.source_files import Location
from node.sources.source_settings import SourceSettings
from node.sources.web_url import WebUrl

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_SIZE_MAX = 1024 * 1024
"""Bytes. A model's has a thousand or so."""
PARAMS_SIZE_MAX = 64 * 1024

_LAYERS_MAX = 256
_IMAGE = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_STOPS_MAX = 64
"""As `model_yaml.py`."""

_SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
    "num_predict": "max_tokens",
}
"""Ollama's names and LocalAI's, for `parameters`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a model."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OllamaManifest:
    """What of a model is of use here."""

    model: Layer
    projector: Layer | None = None
    params: Layer | None = None
    warnings: tuple[str, ...] = ()


def manifest_locations(settings: SourceSettings, reference: OllamaReference) -> tuple[Location, ...]:
    """Where the manifest is: at each mirror."""
    return _locations(settings, reference, f"manifests/{reference.tag}")


def blob_locations(
    settings: SourceSettings, reference: OllamaReference, layer: Layer
) -> tuple[Location, ...]:
    """Where a layer is: at each mirror."""
    return _locations(settings, reference, f"blobs/sha256:{layer.sha256}")


def read_manifest(document: object, *, reference: OllamaReference) -> OllamaManifest:
    """The manifest in `document`.

    Raises:
      SourceRefused: it is none.
      UnsuitableModel: it is one of another kind of model.
    """
    name = reference.canonical
    layers = document.get("layers") if isinstance(document, Mapping) else None
    if not isinstance(layers, list) or not layers or len(layers) > _LAYERS_MAX:
        raise SourceRefused(f"what the registry has as {name} is no manifest of a model")
    by_kind: dict[str, list[Layer]] = {}
    for item in layers:
        kind, layer = _layer(item, name)
        by_kind.setdefault(kind, []).append(layer)
    if "adapter" in by_kind:
        raise UnsuitableModel(f"{name} is a model with an adapter, which this program does not load")
    models = by_kind.get("model", [])
    if len(models) != 1:
        raise UnsuitableModel(f"{name} has {len(models)} GGUF files, this program runs models of one")
    left_out = [kind for kind in ("system", "messages") if kind in by_kind]
    return OllamaManifest(
        models[0],
        next(iter(by_kind.get("projector", [])), None),
        next(iter(by_kind.get("params", [])), None),
        tuple(f"{name}: its {kind} prompt has no effect here" for kind in left_out),
    )


def settings_of(params: object) -> dict[str, Any]:
    """LocalAI's settings for Ollama's parameters; those that have no like here are left out."""
    if not isinstance(params, Mapping):
        return {}
    parameters = {
        ours: params[theirs] for theirs, ours in _SAMPLING.items() if _is_number(params.get(theirs))
    }
    if parameters.get("max_tokens", 0) < 0:
        # Ollama's way to say: as many as there is room for.
        del parameters["max_tokens"]
    settings: dict[str, Any] = {"parameters": parameters}
    if _is_number(params.get("num_ctx")):
        settings["context_size"] = params["num_ctx"]
    stops = params.get("stop")
    if isinstance(stops, Sequence) and not isinstance(stops, str):
        settings["stopwords"] = [stop for stop in stops if isinstance(stop, str) and stop][:_STOPS_MAX]
    return settings


def _locations(settings: SourceSettings, reference: OllamaReference, path: str) -> tuple[Location, ...]:
    own = (WebUrl.parse(f"https://{reference.host}"),) if reference.host else settings.ollama_registries
    path = f"/v2/{reference.namespace}/{reference.name}/{path}"
    return tuple(Location(root.join(root.shown.rstrip("/") + path)) for root in own)


def _layer(item: object, name: str) -> tuple[str, Layer]:
    if isinstance(item, Mapping):
        kind, size_bytes = item.get("mediaType"), item.get("size")
        digest = _DIGEST.fullmatch(str(item.get("digest")))
        if isinstance(kind, str) and digest and isinstance(size_bytes, int) and size_bytes >= 0:
            return kind.partition(";")[0].strip().removeprefix(_IMAGE), Layer(digest[1], size_bytes)
    raise SourceRefused(f"the manifest of {name} has a layer without a type, a sha256 or a size")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
