"""LocalAI's galleries: what stands in an index, and in the base configs that its entries name. Pure.

    - name: qwen3-4b                                          one entry
      description, license, icon, tags, urls, size            for people
      url: github:mudler/LocalAI/gallery/qwen3.yaml@master    the base config: a file with a `config_file`
      config_file: {backend: llama-cpp, ...}                  or it stands here
      overrides: {parameters: {model: qwen3-4b.gguf}}         laid over it
      files: [{filename: qwen3-4b.gguf, uri: huggingface://..., sha256: ...}]
    - !!merge <<: *qwen3                                      the next, told by what is different

An entry that cannot be understood is left out with a warning: one mistake of one editor must not take the
other seventeen hundred models away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.models.portable_text import is_portable
from node.sources.bounded_yaml import BadYaml, load_yaml_untrusted
from node.sources.errors import BadGallery

INDEX_SIZE_MAX = 16 * 1024 * 1024
"""Bytes. LocalAI's own has 2 MB for 1,700 models."""
BASE_SIZE_MAX = 64 * 1024
"""Bytes of a base config: what a model's settings may have (`model_yaml.py`). LocalAI's have up to 7,000."""

_VALUES_MAX = 1_000_000
"""Keys and values of an index, aliases written out. LocalAI's has 100,000."""
_BASE_VALUES_MAX = 10_000
_ENTRIES_MAX = 20_000
"""Ten times what LocalAI's has."""
_FILES_MAX = 256
"""Of one entry. The largest models are split in below 200."""
_TEXT_MAX = 200
"""Characters of a name, a tag, a licence."""
_DESCRIPTION_MAX = 20_000
_URL_MAX = 4096
_LIST_MAX = 100
_WARNINGS_MAX = 20
"""What a person reads of one index."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GalleryFile:
    """One file that an entry wants."""

    filename: str
    """What the settings call it: a name or a relative path."""
    uri: str = field(repr=False)
    sha256: str = ""
    """Hex, small letters; empty: not said."""


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What entries are laid over."""

    settings: Mapping[str, Any]
    files: tuple[GalleryFile, ...] = ()
    name: str = ""
    """What it calls itself; entries have names of their own."""


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One model of a gallery."""

    gallery: str
    name: str
    description: str = ""
    license: str = ""
    icon: str = ""
    tags: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    base_url: str = ""
    """Where its base config is; empty: it has `base` alone."""
    base: BaseConfig = field(default_factory=lambda: BaseConfig({}))
    overrides: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[GalleryFile, ...] = ()
    size: str = ""
    """Of its files, as somebody wrote it: `4.7GB`; empty: not said."""

    @property
    def id(self) -> str:
        """What `models pull` takes for this one and no other."""
        return f"{self.gallery}@{self.name}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model of a gallery that cannot be understood."""

    name: str
    """Empty: it has none that can be read."""
    problem: str
    """Which it is, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class GalleryIndex:
    """All entries of one gallery, in its order."""

    entries: Sequence[GalleryEntry]
    left_out: Sequence[LeftOut] = ()

    @property
    def warnings(self) -> Sequence[str]:
        """What is left out, one line each, as much as a person reads."""
        told = [each.problem for each in self.left_out[:_WARNINGS_MAX]]
        if (more := len(self.left_out) - len(told)) > 0:
            told.append(f"gallery {self.entries[0].gallery!r}: {more} more are left out")
        return told


def parse_index(content: bytes, *, gallery: str) -> GalleryIndex:
    """The index in `content` of the gallery that is called `gallery`. Takes a second for the largest: in a
    thread.

    Raises:
      BadGallery: it is no index, or more than one can be.
    """
    document = _load(content, f"the index of gallery {gallery!r}", INDEX_SIZE_MAX, _VALUES_MAX)
    if not isinstance(document, list) or not document:
        # Empty or a map is what a proxy's page or a mistyped address gives.
        raise BadGallery(f"the index of gallery {gallery!r} is not a list of models")
    if len(document) > _ENTRIES_MAX:
        raise BadGallery(
            f"the index of gallery {gallery!r} has {len(document)} models; {_ENTRIES_MAX} are allowed"
        )
    entries: list[GalleryEntry] = []
    left_out: list[LeftOut] = []
    for number, item in enumerate(document, 1):
        try:
            entries.append(_entry(item, gallery))
        except _Problem as problem:
            name = _readable_name(item)
            which = f"model {number} ({name})" if name else f"model {number}"
            left_out.append(LeftOut(name, f"gallery {gallery!r}: {which} is left out: {problem}"))
    if not entries:
        raise BadGallery(left_out[0].problem)
    return GalleryIndex(entries, left_out)


def parse_base(content: bytes, *, source: str) -> BaseConfig:
    """The base config in `content`, from `source`.

    Raises:
      BadGallery: it is none.
    """
    document = _load(content, source, BASE_SIZE_MAX, _BASE_VALUES_MAX)
    if not isinstance(document, Mapping):
        raise BadGallery(f"{source} is no base config of a gallery: it is not a map")
    try:
        return BaseConfig(
            _config_file(document.get("config_file")), _files(document.get("files")), _text(document, "name")
        )
    except _Problem as problem:
        raise BadGallery(f"{source}: {problem}") from None


class _Problem(Exception):
    """What is wrong with one entry."""


def _load(content: bytes, what: str, size_max: int, values_max: int) -> Any:  # noqa: ANN401 (whatever it is)
    if len(content) > size_max:
        raise BadGallery(f"{what} is larger than {size_max} bytes")
    try:
        return load_yaml_untrusted(content, values_max=values_max)
    except BadYaml as error:
        raise BadGallery(f"{what} cannot be read: {error}") from error


def _entry(item: object, gallery: str) -> GalleryEntry:
    if not isinstance(item, Mapping):
        raise _Problem("it is not a map")
    name = _text(item, "name")
    if not name or "@" in name:
        raise _Problem("it has no name, or one with '@'")
    return GalleryEntry(
        gallery,
        name,
        _text(item, "description", _DESCRIPTION_MAX, is_one_line=False),
        _text(item, "license"),
        _text(item, "icon", _URL_MAX),
        _texts(item, "tags"),
        _texts(item, "urls"),
        _text(item, "url", _URL_MAX),
        BaseConfig(_config_file(item.get("config_file"))),
        _map(item, "overrides"),
        _files(item.get("files")),
        _text(item, "size"),
    )


def _readable_name(item: object) -> str:
    """Of an entry that has a mistake, perhaps in its name."""
    try:
        return _text(item, "name") if isinstance(item, Mapping) else ""
    except _Problem:
        return ""


def _config_file(value: object) -> Mapping[str, Any]:
    """A map, or as in LocalAI's files the text of one."""
    if isinstance(value, str):
        try:
            value = load_yaml_untrusted(value.encode(errors="replace"), values_max=_BASE_VALUES_MAX)
        except BadYaml as error:
            raise _Problem(f"its config_file cannot be read: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Problem("its config_file must be a map")
    return value


def _files(value: object) -> tuple[GalleryFile, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise _Problem("its files must be a list of maps")
    if len(value) > _FILES_MAX:
        raise _Problem(f"it has {len(value)} files; {_FILES_MAX} are allowed")
    return tuple(_file(item) for item in value)


def _file(item: Mapping[Any, Any]) -> GalleryFile:
    filename, uri = _text(item, "filename", _URL_MAX), _text(item, "uri", _URL_MAX)
    sha256 = _text(item, "sha256").lower()
    if not filename or not uri:
        raise _Problem("one of its files has no filename or no uri")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise _Problem(f"the sha256 of {filename!r} is not 64 hexadecimal digits")
    return GalleryFile(filename, uri, sha256)


def _map(item: Mapping[Any, Any], key: str) -> Mapping[str, Any]:
    value = item.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _Problem(f"its {key} must be a map")
    return value


def _text(item: Mapping[Any, Any], key: str, length_max: int = _TEXT_MAX, *, is_one_line: bool = True) -> str:
    value = item.get(key)
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A model that is called 42, a sha256 of digits alone.
        value = str(value)
    if not isinstance(value, str) or not is_portable(value):
        raise _Problem(f"its {key} must be text")
    value = value.strip()
    if len(value) > length_max or (is_one_line and not value.isprintable()):
        raise _Problem(f"its {key} must be one line of at most {length_max} characters")
    return value


def _texts(item: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    """What is for people only: what is wrong there is no reason to lose the model."""
    value = item.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(
        text[:_URL_MAX]
        for text in value[:_LIST_MAX]
        if isinstance(text, str) and is_portable(text) and text.isprintable()
    )
