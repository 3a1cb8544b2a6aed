"""One model of this node as its files describe it, before anything is loaded.

A model is a GGUF file, a YAML beside it, or both:

    tiny.gguf                      called `tiny`
    tiny.gguf + tiny.yaml          called as the YAML says, with its settings
    gpt.yaml -> tiny.gguf          (`parameters.model`): a file under another name
    big-0000N-of-00003.gguf        called `big`: one model in three files

A file with a problem still has a definition, so that people see it fail and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ledger.records import ModelName
from node.models.demo_model import DEMO_CHAT_TEMPLATE, DEMO_MODEL_NAME, DEMO_MODEL_SHA256, find_demo_model
from node.models.errors import BadModelFile, BadModelName, BadModelYaml, DemoModelMissing
from node.models.model_file import inspect_model_files
from node.models.model_name import name_of_file
from node.models.model_yaml import ModelSettings, read_model_yaml
from node.models.portable_text import is_portable
from node.models.split_files import parse_part_name, parts_of

YAML_SUFFIXES = (".yaml", ".yml")

DEMO = "demo"
"""What people write instead of a path to mean the bundled model."""


@dataclass(frozen=True, slots=True)
class ModelDefinition:
    """What is known of a model from its files."""

    name: ModelName
    path: Path
    """Of the GGUF file; of the first, where there are several."""
    settings: ModelSettings = field(default_factory=ModelSettings)
    yaml_path: Path | None = None
    mmproj_path: Path | None = None
    """Of its projector, where the settings name one."""
    size_bytes: int = 0
    expected_sha256: str = ""
    """Hex, where it is known beforehand."""
    problem: str = ""
    """Why it cannot be loaded, for a person; empty if nothing speaks against it."""

    @property
    def parts(self) -> tuple[Path, ...]:
        """Its GGUF files, in order."""
        return parts_of(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """All it is made of but its settings."""
        return self.parts if self.mmproj_path is None else (*self.parts, self.mmproj_path)


def define_given(text: str, *, memory_bytes: int) -> ModelDefinition:
    """The model that somebody asked for by a path, or by `demo`.

    Raises:
      BadModelName: neither its file nor its settings give it a name it can have.
    """
    if text != DEMO:
        return define_model(Path(text), memory_bytes=memory_bytes)
    try:
        path = find_demo_model()
    except DemoModelMissing as error:
        return ModelDefinition(DEMO_MODEL_NAME, Path(DEMO), problem=str(error))
    definition = define_model(path, memory_bytes=memory_bytes)
    settings = replace(definition.settings, chat_template=DEMO_CHAT_TEMPLATE)
    return replace(definition, name=DEMO_MODEL_NAME, settings=settings, expected_sha256=DEMO_MODEL_SHA256)


def define_model(path: Path, *, memory_bytes: int) -> ModelDefinition:
    """The model at `path`, which is a GGUF file, any part of one, or a YAML that names one.

    Raises:
      BadModelName: neither its file nor its settings give it a name it can have, or its path is one
        that nobody could be told.
    """
    path = path.expanduser().absolute()
    if not is_portable(str(path)):
        raise BadModelName(f"{str(path)!r} is not text in UTF-8: rename the file or its folder")
    is_yaml = path.suffix in YAML_SUFFIXES
    yaml_path = path if is_yaml else _yaml_beside(path)
    settings, problem = ModelSettings(), ""
    if yaml_path is not None:
        try:
            settings = read_model_yaml(yaml_path)
        except BadModelYaml as error:
            problem = str(error)
    if is_yaml:
        path = path.parent / settings.file if settings.file else _gguf_beside(path)
    elif settings.file and _names(Path(settings.file)) != _names(path):
        # The YAML that happens to be beside it is about another file.
        settings, yaml_path = ModelSettings(), None
    parts, size_bytes = parts_of(path), 0
    if not problem:
        try:
            size_bytes = inspect_model_files(parts, memory_bytes=memory_bytes)
        except BadModelFile as error:
            problem = f"{error}, which {yaml_path} names" if is_yaml and settings.file else str(error)
    name = settings.name or name_of_file(yaml_path or path)
    mmproj_path = yaml_path.parent / settings.mmproj if yaml_path and settings.mmproj else None
    if mmproj_path is not None and not mmproj_path.is_file():
        # It answers in text without.
        warning = f"{yaml_path}: mmproj names {settings.mmproj}, which is not there"
        settings, mmproj_path = replace(settings, warnings=(*settings.warnings, warning)), None
    return ModelDefinition(name, parts[0], settings, yaml_path, mmproj_path, size_bytes, problem=problem)


def _names(path: Path) -> list[str]:
    return [part.name for part in parts_of(path)]


def _yaml_beside(path: Path) -> Path | None:
    return next((yaml for yaml in _yaml_candidates(path) if yaml.is_file()), None)


def _yaml_candidates(path: Path) -> Iterator[Path]:
    """`big.yaml` is about all of `big-00001-of-00003.gguf` and the others."""
    part = parse_part_name(path.stem)
    for suffix in YAML_SUFFIXES:
        yield parts_of(path)[0].with_suffix(suffix)
        if part is not None:
            yield path.with_name(f"{part.stem}{suffix}")


def _gguf_beside(yaml_path: Path) -> Path:
    """The file, or the first part, that is called like the YAML."""
    path = yaml_path.with_suffix(".gguf")
    if not path.exists() and yaml_path.parent.is_dir():
        for candidate in sorted(yaml_path.parent.glob("*-of-*.gguf")):
            part = parse_part_name(candidate.stem)
            if part is not None and part.stem == yaml_path.stem:
                return candidate
    return path
