"""The galleries of this node: their indexes, read from files or the web, and kept for when there is no
network.

    galleries = Galleries(sources, client, cache=home / "galleries")
    found = await galleries.find(GalleryReference("qwen3-4b"))
    base = await galleries.base_of(found)

What came from the web is kept with its ETag, so that it comes again only when it changed, and is used with a
warning where nobody answers. Only what could be understood is kept: a proxy's login page never takes the
place of an index.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from node.errors import NodeError
from node.home import write_private
from node.sources.errors import BadGallery, NotInGallery, SourceError, SourceRefused, SourceUnavailable
from node.sources.gallery_index import (
    BASE_SIZE_MAX,
    INDEX_SIZE_MAX,
    BaseConfig,
    GalleryEntry,
    GalleryIndex,
    parse_base,
    parse_index,
)
from node.sources.gallery_install import base_location
from node.sources.gallery_source import GallerySource
from node.sources.reference import GalleryReference
from node.sources.source_client import SourceClient
from node.sources.source_files import Location
from node.sources.web_url import WebUrl

logger = logging.getLogger(__name__)

Content = TypeVar("Content")

_ETAG_SIZE_MAX = 1024
_COMPARED_MAX = 3000
"""Names that what was not found is compared with: more than LocalAI's gallery has, and of the longest ones
that takes a few seconds."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A model of a gallery, and where that gallery is."""

    entry: GalleryEntry
    source: GallerySource
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GalleryList:
    """What all galleries have, in the order in which they were given."""

    indexes: Sequence[tuple[GallerySource, GalleryIndex]]
    warnings: tuple[str, ...] = ()
    """Of galleries that could not be read, or not anew. What is left out of one is in its index."""


@dataclass(slots=True)
class Galleries:
    """All galleries of this node. One task uses it at a time."""

    sources: Sequence[GallerySource]
    client: SourceClient
    cache: Path
    """The folder for copies; made when there is something to keep."""
    _parsed: dict[str, tuple[bytes, GalleryIndex]] = field(default_factory=dict)
    """By gallery: the sha256 of the index that was understood last, and what it said."""

    async def listing(self, name: str = "") -> GalleryList:
        """What every gallery has, or the one of that name. One that cannot be read is a warning, unless it is
        the only one.

        Raises:
          SourceError: none could be read; what the last one said.
        """
        indexes: list[tuple[GallerySource, GalleryIndex]] = []
        warnings: list[str] = []
        problem: SourceError | None = None
        for source in self.sources:
            if name.casefold() not in ("", source.name.casefold()):
                continue
            try:
                index, said = await self._index(source)
            except SourceError as error:
                problem = error
                warnings.append(str(error))
                continue
            if index.left_out:
                logger.warning(
                    "models of a gallery are left out: count=%d first=%s",
                    len(index.left_out),
                    index.left_out[0].problem,
                )
            indexes.append((source, index))
            warnings += said
        if problem is not None and not indexes:
            raise problem
        return GalleryList(indexes, tuple(warnings))

    async def find(self, reference: GalleryReference) -> FoundEntry:
        """The model that `reference` names, in the first gallery that has it; its name may differ in case.

        Raises:
          NotInGallery: no gallery has it.
          SourceError: no gallery could be read.
        """
        wanted = reference.gallery.casefold()
        if wanted and wanted not in (source.name.casefold() for source in self.sources):
            known = ", ".join(source.name for source in self.sources) or "none"
            raise NotInGallery(f"no gallery is called {reference.gallery!r}; there is {known}")
        listed = await self.listing(wanted)
        names = []
        for source, index in listed.indexes:
            for entry in index.entries:
                if entry.name.casefold() == reference.name.casefold():
                    return FoundEntry(entry, source, listed.warnings)
                names.append(entry.name)
        for _, index in listed.indexes:
            for left_out in index.left_out:
                if left_out.name.casefold() == reference.name.casefold():
                    raise NotInGallery(left_out.problem)
        raise NotInGallery(
            await trio.to_thread.run_sync(_not_found, reference, names[:_COMPARED_MAX], listed.warnings)
        )

    async def base_of(self, found: FoundEntry) -> BaseConfig:
        """What the entry is laid over.

        Raises:
          BadGallery: it cannot be understood, or is nowhere one may look.
          SourceError: nobody gives it, and there is no copy.
        """
        entry, source = found.entry, found.source
        if not entry.base_url:
            return entry.base
        place = base_location(entry, index=source.index)
        if isinstance(source.index, Path) and isinstance(place, WebUrl):
            # A whole gallery that was copied to this machine names its files by where they came from.
            beside = source.index.parent / place.shown.rpartition("/")[2]
            place = beside if beside.is_file() else place
        base, _ = await self._read(
            place, BASE_SIZE_MAX, lambda content: parse_base(content, source=str(place))
        )
        return base

    async def _index(self, source: GallerySource) -> tuple[GalleryIndex, Sequence[str]]:
        def parse(content: bytes) -> GalleryIndex:
            digest = hashlib.sha256(content).digest()
            known = self._parsed.get(source.name)
            if known is not None and known[0] == digest:
                return known[1]
            index = parse_index(content, gallery=source.name)
            self._parsed[source.name] = digest, index
            return index

        return await self._read(source.index, INDEX_SIZE_MAX, parse)

    async def _read(
        self, place: WebUrl | Path, size_max: int, parse: Callable[[bytes], Content]
    ) -> tuple[Content, Sequence[str]]:
        """What `parse` makes of what is at `place`, and warnings."""
        if isinstance(place, Path):
            content = await trio.to_thread.run_sync(_read_file, place, size_max)
            return await trio.to_thread.run_sync(parse, content), ()

        def parsed_copy() -> Content | None:
            try:
                return parse(_read_file(copy, size_max))
            except BadGallery:
                return None

        copy = self.cache / f"{hashlib.sha256(place.canonical.encode()).hexdigest()[:32]}.yaml"
        etag_file = copy.with_suffix(".etag")
        etag = await trio.to_thread.run_sync(_read_etag, etag_file) if copy.is_file() else ""
        headers = {"if-none-match": etag} if etag else {}
        try:
            document = await self.client.read(Location(place), size_max=size_max, headers=headers)
            if document.is_unchanged:
                kept = await trio.to_thread.run_sync(parsed_copy)
                if kept is not None:
                    return kept, ()
                # Another version of this program kept it, or the disk has spoilt it.
                document = await self.client.read(Location(place), size_max=size_max)
            parsed = await trio.to_thread.run_sync(parse, document.body)
        except (SourceRefused, SourceUnavailable, BadGallery) as error:
            kept = await trio.to_thread.run_sync(parsed_copy)
            if kept is None:
                raise
            return kept, (f"{error}; what {place} had before is used",)
        await trio.to_thread.run_sync(self._keep, copy, document.body, document.headers.get("etag", ""))
        return parsed, ()

    def _keep(self, copy: Path, body: bytes, etag: str) -> None:
        """Keep what came. First the content: with an ETag too old it only comes once more."""
        try:
            self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(copy, body)
            write_private(copy.with_suffix(".etag"), etag[:_ETAG_SIZE_MAX].encode("ascii", "ignore"))
        except (OSError, NodeError) as error:
            logger.warning("what a gallery gave is used and cannot be kept: path=%s error=%s", copy, error)


@asynccontextmanager
async def open_galleries(sources: Sequence[GallerySource], cache: Path) -> AsyncIterator[Galleries]:
    """The galleries at `sources`, with a client of their own."""
    async with SourceClient() as client:
        yield Galleries(sources, client, cache)


def _read_file(path: Path, size_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(size_max + 1)
    except OSError as error:
        raise BadGallery(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > size_max:
        raise BadGallery(f"{path} is larger than {size_max} bytes")
    return content


def _read_etag(path: Path) -> str:
    try:
        text = path.read_bytes()[:_ETAG_SIZE_MAX].decode("ascii", "ignore").strip()
    except OSError:
        return ""
    return text if text.isprintable() else ""


def _not_found(reference: GalleryReference, names: Sequence[str], warnings: Sequence[str]) -> str:
    close = difflib.get_close_matches(reference.name, names, 3, 0.6)
    text = f"no gallery has a model that is called {reference.canonical!r}"
    if close:
        text += f"; did you mean {' or '.join(close)}?"
    return f"{text} ({warnings[0]})" if warnings else text
