"""Models that are on this machine: a file, with the settings beside it, and the bundled one.

They are used where they are; to take one in is to copy it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from node.models.definition import define_model
from node.models.demo_model import DEMO_CHAT_TEMPLATE, DEMO_MODEL_NAME, DEMO_MODEL_SHA256, find_demo_model
from node.models.model_yaml import YAML_SIZE_MAX
from node.sources.bounded_yaml import BadYaml, load_yaml_untrusted
from node.sources.errors import UnsuitableModel
from node.sources.model_settings import checked_settings
from node.sources.reference import expanded
from node.sources.source_files import SourceFile, SourceFiles
from node.store.model_files import canonical_names, weights_names

_VALUES_MAX = 10_000
"""Keys and values of one model's settings."""


def demo_files() -> SourceFiles:
    """The bundled model.

    Raises:
      DemoModelMissing: it is not installed.
    """
    path = find_demo_model()
    file = SourceFile(
        weights_names(1)[0], "demo", path=path, size_bytes=path.stat().st_size, sha256=DEMO_MODEL_SHA256
    )
    settings = {"name": str(DEMO_MODEL_NAME), "template": {"chat": DEMO_CHAT_TEMPLATE}}
    return SourceFiles(DEMO_MODEL_NAME, (file,), settings, "Apache-2.0")


def local_files(path: Path) -> SourceFiles:
    """The model at `path`, a GGUF file or a YAML that names one: all its parts, and its projector.

    Raises:
      UnsuitableModel: it is none; says why.
      BadModelName: nothing gives it a name it can have.
    """
    # How much memory there is plays no part in which files it has.
    definition = define_model(expanded(path), memory_bytes=sys.maxsize)
    if definition.problem:
        raise UnsuitableModel(definition.problem)
    return SourceFiles(
        definition.name,
        tuple(
            SourceFile(name, str(file), path=file, size_bytes=file.stat().st_size)
            for name, file in canonical_names(definition)
        ),
        _settings_in(definition.yaml_path) if definition.yaml_path is not None else {},
        warnings=definition.settings.warnings,
    )


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = load_yaml_untrusted(file.read(YAML_SIZE_MAX), values_max=_VALUES_MAX)
    except OSError as error:
        raise UnsuitableModel(f"{path} cannot be read: {error.strerror}") from error
    except BadYaml as error:
        raise UnsuitableModel(f"{path} cannot be read: {error}") from error
    return checked_settings(content or {}, source=str(path))
