"""From an entry of a gallery to what has to be there: files, and settings. Pure.

Settings are the base config with the name, the entry's overrides and then the person's laid over it, in
LocalAI's order. Of the files the model itself is taken, all its parts, and its projector; what LocalAI
installs for other backends has no use here and is left out with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ledger.records import ModelName
from node.models.errors import BadModelName
from node.models.model_name import parse_model_name
from node.sources.errors import BadGallery, BadReference, UnsuitableModel
from node.sources.file_names import parts_among
from node.sources.gallery_index import BaseConfig, GalleryEntry, GalleryFile
from node.sources.hugging_face import file_locations
from node.sources.model_settings import checked_settings, merge
from node.sources.reference import (
    GITHUB,
    FileReference,
    HuggingFaceReference,
    UrlReference,
    expanded,
    parse_reference,
)
from node.sources.source_files import Location, SourceFile, SourceFiles
from node.sources.source_settings import SourceSettings
from node.sources.web_url import WebUrl
from node.store.model_files import PROJECTOR, weights_names


def files_to_install(
    entry: GalleryEntry,
    base: BaseConfig,
    settings: SourceSettings,
    *,
    name: ModelName | None = None,
    overrides: Mapping[str, Any] | None = None,
    files: Sequence[GalleryFile] = (),
    folder: Path | None,
) -> SourceFiles:
    """What `entry` over `base` needs, called `name` if that is given, with a person's `overrides` and
    `files`.

    `folder`: where the gallery is on this machine, so that it may name other files there; None: elsewhere. In
    a thread, as `checked_settings`.

    Raises:
      UnsuitableModel: it is none that this program runs; says why.
      BadGallery: it names a file that cannot be had.
    """
    try:
        name = name or parse_model_name(entry.name)
    except BadModelName as error:
        raise UnsuitableModel(f"{entry.id}: {error}; give it another name with --name") from error
    wanted = merge(merge({**base.settings, "name": str(name)}, entry.overrides), overrides or {})
    checked = checked_settings(wanted, source=entry.id)
    # As LocalAI orders them; of two with one name the later one counts.
    known = {file.filename: file for file in (*base.files, *files, *entry.files)}
    model, projector = _named_files(entry.id, wanted, known)
    parts = parts_among(known, model)
    missing = [part for part in (*parts, projector) if part and part not in known]
    if missing:
        raise BadGallery(f"{entry.id} needs {missing[0]!r} and does not say where it is")
    chosen = list(zip(weights_names(len(parts)), parts, strict=True))
    if projector:
        chosen.append((PROJECTOR, projector))
    taken = {filename for _, filename in chosen}
    return SourceFiles(
        name,
        tuple(
            _source_file(entry.id, canonical, known[filename], settings, folder)
            for canonical, filename in chosen
        ),
        checked,
        entry.license,
        tuple(
            f"{entry.id}: {filename!r} has no use here and is left out"
            for filename in known
            if filename not in taken
        ),
    )


def base_location(entry: GalleryEntry, *, index: WebUrl | Path) -> WebUrl | Path:
    """Where the base config of `entry` is, which may be told relative to its gallery's `index`.

    Raises:
      BadGallery: nowhere, or on this machine though the gallery is not.
    """
    text = entry.base_url
    try:
        if "://" not in text and not text.startswith(GITHUB):
            if text.startswith(("/", "\\")) or ".." in text or ":" in text:
                raise BadGallery(f"{entry.id}: its url {text[:200]!r} leads out of its gallery")
            return index.join(text) if isinstance(index, WebUrl) else index.parent / text
        reference = parse_reference(text)
    except BadGallery:
        raise
    except ValueError as error:
        raise BadGallery(f"{entry.id}: its url cannot be used: {error}") from error
    match reference:
        case UrlReference(url):
            return url
        case FileReference(path) if isinstance(index, Path):
            return path
    raise BadGallery(f"{entry.id}: its url {reference.canonical[:200]!r} is none of a base config")


def _named_files(entry: str, wanted: Mapping[str, Any], known: dict[str, GalleryFile]) -> tuple[str, str]:
    """What the settings call the model and its projector (empty: none); adds what they name by its
    address."""
    parameters = wanted.get("parameters")
    model = parameters.get("model") if isinstance(parameters, Mapping) else None
    projector = wanted.get("mmproj")
    found = []
    for name in (model, projector):
        text = name if isinstance(name, str) else ""
        if "://" in text and text not in known:
            known[text] = GalleryFile(text, text)
        found.append(text)
    if found[0]:
        return found[0], found[1]
    return _only_model(entry, known, found[1]), found[1]


def _only_model(entry: str, known: Iterable[str], projector: str) -> str:
    """The file that the settings must mean if they name none."""
    models = [name for name in known if name.lower().endswith(".gguf") and name != projector]
    first = [name for name in models if name == parts_among(models, name)[0]]
    if len(first) != 1:
        raise UnsuitableModel(f"{entry} does not say which of its {len(models)} GGUF files is the model")
    return first[0]


def _source_file(
    entry: str, name: str, file: GalleryFile, settings: SourceSettings, folder: Path | None
) -> SourceFile:
    try:
        reference = parse_reference(file.uri)
    except BadReference as error:
        raise UnsuitableModel(f"{entry}: {file.filename!r} cannot be had: {error}") from error
    match reference:
        case HuggingFaceReference(path=path) if path:
            locations = file_locations(settings, reference, path)
        case UrlReference(url):
            locations = (Location(url),)
        case FileReference(path) if folder is not None:
            path = folder / expanded(path)
            return SourceFile(name, str(path), path=path, sha256=file.sha256)
        case FileReference():
            raise BadGallery(f"{entry} names a file of this machine, which a gallery from elsewhere may not")
        case _:
            raise UnsuitableModel(f"{entry}: {file.filename!r} has an address that is not that of a file")
    return SourceFile(name, reference.canonical, locations, sha256=file.sha256)
