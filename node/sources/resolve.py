"""From what somebody wrote to the files that have to be there, with their hashes where anybody says them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import trio

from ledger.records import ModelName
from node.models.definition import YAML_SUFFIXES
from node.models.errors import BadModelName
from node.models.model_name import name_of_file, parse_model_name
from node.models.split_files import parse_part_name
from node.sources import hugging_face, ollama
from node.sources.answers import version_of
from node.sources.errors import (
    BadReference,
    SourceError,
    SourceRefused,
    SourceUnavailable,
    UnsuitableModel,
)
from node.sources.galleries import FoundEntry, Galleries
from node.sources.gallery_index import BASE_SIZE_MAX, GalleryEntry, GalleryFile, parse_base
from node.sources.gallery_install import files_to_install
from node.sources.gallery_source import GallerySource
from node.sources.model_settings import checked_settings, merge
from node.sources.reference import (
    DemoReference,
    FileReference,
    GalleryReference,
    HuggingFaceReference,
    OllamaReference,
    Reference,
    UrlReference,
)
from node.sources.source_client import SourceClient
from node.sources.source_files import Location, SourceFile, SourceFiles
from node.sources.source_settings import SourceSettings
from node.sources.this_machine import demo_files, local_files
from node.sources.web_url import WebUrl
from node.store.model_files import PROJECTOR, weights_names

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants otherwise than the source has it."""

    name: ModelName | None = None
    overrides: Mapping[str, Any] | None = None
    """Laid over the settings."""
    files: Sequence[GalleryFile] = ()
    """Beside those of a gallery's entry."""


@dataclass(slots=True)
class Resolver:
    """Looks up what is where. One task uses it at a time."""

    client: SourceClient
    settings: SourceSettings
    galleries: Galleries

    async def resolve(self, reference: Reference, wishes: Wishes | None = None) -> SourceFiles:
        """What `reference` stands for.

        Raises:
          SourceError: nothing that can be had, or that this program runs; says why.
          ModelError: the demo model is not installed, or a local file has no name it can have.
        """
        found = await self._find(reference, wishes or Wishes())
        unknown = [file.canonical for file in found.files if not file.sha256 and file.path is None]
        warnings = [f"nobody says the sha256 of {file}: what comes is taken as it is" for file in unknown]
        # Nothing says that two mirrors have the same as long as there is no hash.
        files = [file if file.sha256 else replace(file, locations=file.locations[:1]) for file in found.files]
        versioned = await self._asked_about(files, self._with_version)
        return replace(found, files=tuple(versioned), warnings=(*found.warnings, *warnings))

    async def _find(self, reference: Reference, wishes: Wishes) -> SourceFiles:
        match reference:
            case GalleryReference():
                return await self._entry(await self.galleries.find(reference), wishes)
            case UrlReference() if _is_settings(reference):
                return await self._settings_of(reference, wishes)
            case _:
                found = await self._unlisted(reference, wishes.name)
                return await trio.to_thread.run_sync(_wished, found, wishes)

    async def _unlisted(
        self,
        reference: DemoReference | FileReference | UrlReference | HuggingFaceReference | OllamaReference,
        name: ModelName | None,
    ) -> SourceFiles:
        """What no gallery describes, called `name` where its own is of no use."""
        match reference:
            case DemoReference():
                return await trio.to_thread.run_sync(demo_files)
            case FileReference(path):
                return await trio.to_thread.run_sync(local_files, path)
            case UrlReference():
                return _web_file(reference, name)
            case HuggingFaceReference():
                return await self._hugging_face(reference, name)
            case OllamaReference():
                return await self._ollama(reference, name)

    async def _entry(self, found: FoundEntry, wishes: Wishes) -> SourceFiles:
        base = await self.galleries.base_of(found)
        files = await trio.to_thread.run_sync(
            partial(
                files_to_install,
                found.entry,
                base,
                self.settings,
                name=wishes.name,
                overrides=wishes.overrides,
                files=wishes.files,
                folder=found.source.index.parent if isinstance(found.source.index, Path) else None,
            )
        )
        hashed = await self._asked_about(files.files, self._hashed)
        return replace(files, files=tuple(hashed), warnings=(*found.warnings, *files.warnings))

    async def _settings_of(self, reference: UrlReference, wishes: Wishes) -> SourceFiles:
        """A config of LocalAI's at an address of its own: as if a gallery had it as its only entry."""
        document = await self.client.read(Location(reference.url), size_max=BASE_SIZE_MAX)
        base = await trio.to_thread.run_sync(lambda: parse_base(document.body, source=str(reference.url)))
        name = base.name or Path(unquote(urlsplit(reference.url.shown).path)).stem
        entry = GalleryEntry(reference.url.host, name, base=base)
        return await self._entry(FoundEntry(entry, GallerySource(reference.url.host, reference.url)), wishes)

    async def _asked_about(
        self, files: Sequence[SourceFile], ask: Callable[[SourceFile], Awaitable[SourceFile]]
    ) -> Sequence[SourceFile]:
        """`files` with what `ask` finds out of each. Where it does not, the download meets the same and says
        so, unless peers have it all the same."""
        told: list[SourceFile] = []
        for file in files:
            try:
                told.append(await ask(file))
            except SourceUnavailable:
                # Who is out of reach is not asked for each part.
                break
            except SourceError:
                told.append(file)
        return [*told, *files[len(told) :]]

    async def _hashed(self, file: SourceFile) -> SourceFile:
        """`file` with its size and sha256, if it has none and Hugging Face says them."""
        theirs = {endpoint.origin for endpoint in self.settings.hf_endpoints}
        if file.sha256 or not file.locations or file.locations[0].url.origin not in theirs:
            return file
        found = await self._described(file.name, file.locations)
        return replace(file, size_bytes=found.size_bytes, sha256=found.sha256)

    async def _with_version(self, file: SourceFile) -> SourceFile:
        """`file` with what its source calls its version, if nobody says its sha256."""
        if file.sha256 or not file.locations:
            return file
        return replace(file, version=version_of(await self.client.headers(file.locations[0])))

    async def _hugging_face(self, reference: HuggingFaceReference, name: ModelName | None) -> SourceFiles:
        if reference.path:
            part = parse_part_name(reference.path)
            paths = part.siblings if part else [reference.path]
            files = [await self._repository_file(reference, path) for path in paths]
        else:
            places = hugging_face.tree_locations(self.settings, reference)
            files = list(hugging_face.choose(await _first_of(places, self._tree), reference))
        names = weights_names(len(files))
        return SourceFiles(
            name or _own_name(lambda: name_of_file(Path(files[0].path))),
            tuple(
                SourceFile(
                    name,
                    replace(reference, path=file.path, quantisation="").canonical,
                    hugging_face.file_locations(self.settings, reference, file.path),
                    size_bytes=file.size_bytes,
                    sha256=file.sha256,
                )
                for name, file in zip(names, files, strict=True)
            ),
        )

    async def _repository_file(
        self, reference: HuggingFaceReference, path: str
    ) -> hugging_face.RepositoryFile:
        return await self._described(path, hugging_face.file_locations(self.settings, reference, path))

    async def _described(self, path: str, locations: Sequence[Location]) -> hugging_face.RepositoryFile:
        headers = await _first_of(locations, lambda each: self.client.headers(each, "x-linked-etag"))
        return hugging_face.read_headers(path, headers)

    async def _tree(self, location: Location) -> Sequence[hugging_face.RepositoryFile]:
        """All files of a repository, from the first page of their list on."""
        first = location.url
        files: list[hugging_face.RepositoryFile] = []
        for _ in range(hugging_face.TREE_PAGES_MAX):
            document = await self.client.read(location, size_max=hugging_face.TREE_SIZE_MAX)
            files += hugging_face.read_tree(await _json(document.body, location))
            following = hugging_face.next_page(document.headers.get("link", ""))
            if not following:
                return files
            try:
                location = replace(location, url=location.url.join(following))
            except ValueError:
                break
            if location.url.origin != first.origin:
                break
        raise SourceRefused(f"{first} lists more files than can be looked through; name one of them")

    async def _manifest(self, location: Location) -> object:
        headers = {"accept": ollama.MANIFEST_TYPE}
        document = await self.client.read(location, size_max=ollama.MANIFEST_SIZE_MAX, headers=headers)
        return await _json(document.body, location)

    async def _params(self, location: Location, layer: ollama.Layer) -> object:
        body = (await self.client.read(location, size_max=ollama.PARAMS_SIZE_MAX)).body
        if hashlib.sha256(body).hexdigest() != layer.sha256:
            raise SourceRefused(f"{location.url} is not what the model's manifest says")
        return await _json(body, location)

    async def _ollama(self, reference: OllamaReference, name: ModelName | None) -> SourceFiles:
        document = await _first_of(ollama.manifest_locations(self.settings, reference), self._manifest)
        manifest = ollama.read_manifest(document, reference=reference)
        name = name or _own_name(lambda: parse_model_name(reference.short_name))
        settings, warnings = {"name": str(name)}, list(manifest.warnings)
        if (params := manifest.params) is not None:
            places = ollama.blob_locations(self.settings, reference, params)
            said = ollama.settings_of(await _first_of(places, lambda each: self._params(each, params)))
            try:
                settings = await trio.to_thread.run_sync(
                    partial(checked_settings, {**settings, **said}, source=reference.canonical)
                )
            except UnsuitableModel as error:
                # It answers without, if not quite as its maker wants.
                warnings.append(f"its parameters are left out: {error}")
        layers = [(weights_names(1)[0], manifest.model)]
        if manifest.projector is not None:
            layers.append((PROJECTOR, manifest.projector))
        files = tuple(
            SourceFile(
                name,
                f"{reference.canonical}/{name}",
                ollama.blob_locations(self.settings, reference, layer),
                size_bytes=layer.size_bytes,
                sha256=layer.sha256,
            )
            for name, layer in layers
        )
        return SourceFiles(name, files, settings, warnings=tuple(warnings))


async def _first_of(locations: Sequence[Location], ask: Callable[[Location], Awaitable[Answer]]) -> Answer:
    """What the first of `locations` says that can help; raises what the last one says instead."""
    *others, last = locations
    for location in others:
        with suppress(SourceRefused, SourceUnavailable):
            return await ask(location)
    return await ask(last)


def _is_settings(reference: UrlReference) -> bool:
    return urlsplit(reference.url.shown).path.lower().endswith(YAML_SUFFIXES)


def _wished(found: SourceFiles, wishes: Wishes) -> SourceFiles:
    """`found` with a person's name and overrides. In a thread, as `checked_settings`."""
    if wishes.files:
        unused = [f"{file.filename!r} has no use here and is left out" for file in wishes.files]
        found = replace(found, warnings=(*found.warnings, *unused))
    if wishes.name is None and not wishes.overrides:
        return found
    name = wishes.name or found.name
    merged = merge({**found.settings, "name": str(name)}, wishes.overrides or {})
    return replace(found, name=name, settings=checked_settings(merged, source=name))


def _web_file(reference: UrlReference, name: ModelName | None) -> SourceFiles:
    parts = urlsplit(reference.url.text)
    part = parse_part_name(parts.path)
    # What is encoded in the path stays so.
    urls = [
        WebUrl.parse(parts._replace(path=path).geturl()) for path in (part.siblings if part else [parts.path])
    ]
    return SourceFiles(
        name or _own_name(lambda: name_of_file(Path(unquote(parts.path)))),
        tuple(
            SourceFile(name, url.canonical, (Location(url),))
            for name, url in zip(weights_names(len(urls)), urls, strict=True)
        ),
    )


def _own_name(make: Callable[[], ModelName]) -> ModelName:
    """What `make` calls a model.

    Raises:
      BadReference: that cannot be a name.
    """
    try:
        return make()
    except BadModelName as error:
        raise BadReference(f"{error}; give it a name with --name") from error


async def _json(body: bytes, location: Location) -> Any:  # noqa: ANN401 (whatever it is)
    try:
        return await trio.to_thread.run_sync(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise SourceRefused(f"{location.url} does not answer in JSON; is there a proxy before it?") from error
