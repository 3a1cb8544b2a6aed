"""Gets one model: from peers if any has it, else from its source, or from who gets it from there.

    wanted by a manifest      a peer's files, known to the byte
    wanted by a reference     1. somebody has it from there, or (a gallery's name) one of that name: as above
                              2. the source knows its hash, and somebody has that: as above
                              3. somebody downloads it: take it from there as it comes
                              4. nobody does: download it, and let others take it from here

Of two that download the same, the smaller peer id goes on, and the other one follows it. Where the one that
downloads is gone, those that followed it all begin to, and the same rule leaves one of them in a moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
import yaml

from ledger.records import ModelName, ModelRecord
from node.install.arrival import Arrival, MakeSettings
from node.install.coming import Coming
from node.install.errors import NotSame
from node.install.memory_sink import MemorySink
from node.install.model_notes import ModelNote
from node.install.order import Order
from node.install.search import (
    Copies,
    Matches,
    getting,
    of_manifest,
    of_name,
    of_source,
    of_weights,
    origin_of,
    seeders,
)
from node.install.shelf import Shelf
from node.install.supply import supply_from_disk, supply_from_peers, supply_from_source
from node.install.swarm_watch import PeersAsTheyChange, SwarmWatch
from node.install.tally import Tally
from node.jobs.runner import Report
from node.models.demo_model import DEMO_MODEL_SHA256
from node.models.model_name import parse_model_name
from node.sources.errors import SourceError
from node.sources.reference import (
    DemoReference,
    FileReference,
    GalleryReference,
    Reference,
    parse_reference,
)
from node.sources.resolve import Resolver
from node.sources.source_files import SourceFile, SourceFiles
from node.store.errors import WrongContent
from node.store.model_files import (
    PROJECTOR,
    SETTINGS,
    require_model,
    settings_at_home,
    weights_sha256,
    weights_sha256_of,
)
from node.store.partial_disk import WantedFile
from node.store.reuse import reuse_chunks
from node.store.store import Store
from p2p.blobs.errors import BadManifest, NobodyHasIt
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.manifest import FileKey, Manifest, ManifestId, decode_manifest_untrusted, source_key
from p2p.blobs.sink import ChunkSink
from p2p.peer import PeerId

_LEADER_PAUSE = 1.0
"""Seconds between two looks whether who downloads has come to a file: it tells nobody when."""


OpenResolver = Callable[[], AbstractAsyncContextManager[Resolver]]
"""Sources outside of the swarm, with connections of their own."""


@dataclass(frozen=True, slots=True)
class Installer:
    """What it needs to get models."""

    swarm: SwarmWatch
    store: Store
    shelf: Shelf
    fetcher: Fetcher
    folder: Path
    """Where models are kept."""
    open_resolver: OpenResolver
    coming: Coming

    async def install(self, order: Order, report: Report) -> ModelName:
        """Get and serve what `order` says; returns its name. Cancelled: what came is kept for another time.

        Raises:
          NodeError, P2PError: it cannot be had; says why. What came is kept, unless it is of no use.
        """
        return await _Install(self, order, report).run()


class _Install:
    """One order, in one task."""

    def __init__(self, installer: Installer, order: Order, report: Report) -> None:
        self._of = installer
        self._swarm = installer.swarm
        self._order = order
        self._report = report
        self._tally = Tally(order.name or order.reference, report.progress)
        self._source = FileKey("")

    async def run(self) -> ModelName:
        if not self._order.reference:
            manifest, name = self._order.manifest, self._order.name
            matches = of_manifest(ManifestId(manifest)) if manifest else of_name(name)
            return await self._take(await self._copies_when_there(matches))
        reference = parse_reference(self._order.reference)
        async with self._of.open_resolver() as resolver:
            if isinstance(reference, FileReference):
                return await self._load(resolver, await resolver.resolve(reference, self._order.wishes()))
            self._source = source_key(hashlib.sha256(reference.canonical.encode()).hexdigest())
            while (served := await self._once(reference, resolver)) is None:
                pass
            return served

    async def _once(self, reference: Reference, resolver: Resolver) -> ModelName | None:
        """One way to get it; None: the swarm is another one by now, so look again."""
        mine = self._of.shelf.from_source(self._source) or self._placed_here(reference)
        if mine is not None:
            return await self._have(mine)
        if (copies := self._find(reference)) is not None:
            return await self._take(copies)
        leader = self._leader()
        if leader is not None:
            return await self._follow(leader, reference, resolver)
        if any([await self._swarm.has_met(matches) for matches in self._matches(reference)]):
            return None
        self._tally.say("looking it up")
        found = await resolver.resolve(reference, self._order.wishes())
        sha256 = weights_sha256_of({file.name: file.sha256 for file in found.files})
        if sha256 and (copies := self._swarm.whole(of_weights(sha256))) is not None:
            return await self._take(copies)
        for warning in found.warnings:
            self._report.warn(warning)

        def is_outranked() -> bool:
            other = self._leader()
            return other is not None and other < self._swarm.me

        with self._of.coming.shown(self._record(found.name, is_origin=True)):
            return await self._swarm.until(is_outranked, partial(self._load, resolver, found))

    def _leader(self) -> PeerId | None:
        """Who else downloads it."""
        return origin_of(self._swarm.nodes(), self._swarm.me, self._source)

    def _find(self, reference: Reference) -> Copies | None:
        """Whole copies of what `reference` means, as far as that can be told without asking its source."""
        found = (self._swarm.whole(matches) for matches in self._matches(reference))
        return next((copies for copies in found if copies is not None), None)

    def _matches(self, reference: Reference) -> Sequence[Matches]:
        """What is the model that `reference` means, the surest first."""
        match reference:
            case DemoReference():
                return of_source(self._source), of_weights(DEMO_MODEL_SHA256)
            case GalleryReference(name, gallery="") if not (self._order.overrides or self._order.files):
                return of_source(self._source), of_name(name)
        return (of_source(self._source),)

    def _placed_here(self, reference: Reference) -> ModelName | None:
        """The model that the swarm put here by the name that somebody asks for now."""
        match reference:
            case GalleryReference(name, gallery="") if not (self._order.overrides or self._order.files):
                return ModelName(name) if name in self._of.shelf.placed() else None
        return None

    async def _have(self, name: ModelName) -> ModelName:
        """It is here already. What a person asks for stays, whoever put it here."""
        if not self._order.is_placed and await self._of.shelf.own(name):
            self._of.coming.on_change()
        return name

    async def _take(self, copies: Copies) -> ModelName:
        """Get it from peers that have all of it."""
        name = parse_model_name(self._order.name or copies.name)
        self._tally.model = name
        if self._of.shelf.has(name, copies.sha256):
            return await self._have(name)
        manifest = await self._manifest(copies)
        record = self._record(name, manifest=manifest)
        with self._of.coming.shown(record):
            async with Arrival(self._of.store, self._of.folder, name) as arrival:
                shared = await self._take_files(manifest, arrival)
                try:
                    await arrival.finish()
                except WrongContent as error:
                    raise NotSame(f"peers gave something else than {name}: {error}") from error
                await self._serve(arrival, name, lambda names: settings_at_home(shared, name, names))
        await self._of.store.manifests.drop(manifest.id)
        return name

    async def _manifest(self, copies: Copies) -> Manifest:
        """The list of its files, kept until they are here.

        Raises:
          NobodyHasIt: no holder gives it.
          NotSame: it is not one of what holders say they have.
        """
        self._tally.say("asking what its files are")
        kept = await self._of.store.manifests.get(copies.manifest)
        if kept is not None:
            return decode_manifest_untrusted(kept)
        manifest = await self._of.fetcher.fetch_manifest(copies.manifest, copies.peers)
        try:
            require_model(manifest)
        except BadManifest as error:
            raise NotSame(f"what peers call {copies.name} is no model: {error}") from error
        if weights_sha256(manifest) != copies.sha256:
            raise NotSame(f"what peers call {copies.name} has other weights than they say")
        await self._of.store.manifests.keep(manifest)
        return manifest

    async def _take_files(self, manifest: Manifest, arrival: Arrival) -> bytes:
        """All files but the settings, which are returned."""
        for file in manifest.files:
            self._tally.note(file.name, file.size_bytes, 0, {})
        shared = b""
        for file in manifest.files:
            peers = self._swarm.peers(
                partial(seeders, me=self._swarm.me, manifest=manifest.id, sha256=file.sha256)
            )
            fetched = FetchedFile.of_manifest(file)
            if file.name == SETTINGS:
                sink = MemorySink(file.size_bytes)
                await self._supply(fetched, sink, peers, file.name)
                shared = sink.whole()
                continue
            coming = await arrival.open(file.name, WantedFile.of(file))
            self._tally.say(f"looking for {file.name} on this disk")
            await reuse_chunks(coming, self._of.store.hasher.cache)
            await self._supply(fetched, coming, peers, file.name)
        return shared

    async def _follow(self, leader: PeerId, reference: Reference, resolver: Resolver) -> ModelName | None:
        """Take it from who downloads it, as it comes."""

        def is_gone() -> bool:
            return leader not in getting(self._swarm.nodes(), self._swarm.me, self._source)

        try:
            found = await resolver.resolve(reference, self._order.wishes())
        except SourceError as error:
            # It can be had all the same: from the leader, once that has all of it.
            self._tally.say(
                f"waiting for {self._swarm.names().get(leader, leader)}, who downloads it ({error})"
            )
            await self._swarm.wait_until(
                lambda: origin_of(self._swarm.nodes(), self._swarm.me, self._source) != leader
            )
            return None
        with self._of.coming.shown(self._record(found.name)):
            return await self._swarm.until(is_gone, partial(self._follow_files, leader, found))

    async def _follow_files(self, leader: PeerId, found: SourceFiles) -> ModelName:
        self._tally.model = found.name
        peers = self._swarm.peers(partial(getting, me=self._swarm.me, source=self._source))
        async with Arrival(self._of.store, self._of.folder, found.name) as arrival:
            for file in found.files:
                self._tally.say(f"waiting for {file.name} to be found")
                size_bytes = await self._size(file, leader)
                version = f"sha256:{file.sha256}" if file.sha256 else ""
                coming = await arrival.open(
                    file.name, WantedFile(file.key, size_bytes, file.sha256, version=version)
                )
                fetched = FetchedFile.of_origin(file.key, size_bytes, leader, file.sha256)
                await self._supply(fetched, coming, peers, file.name)
                coming.sha256 = fetched.sha256
            return await self._finish_and_serve(arrival, found)

    async def _size(self, file: SourceFile, leader: PeerId) -> int:
        """Bytes of a file that `leader` is downloading, or will be once it has those before it."""
        while file.size_bytes is None:
            try:
                return (await self._of.fetcher.describe(file.key, leader)).size_bytes
            except NobodyHasIt:
                await trio.sleep(_LEADER_PAUSE)
        return file.size_bytes

    async def _load(self, resolver: Resolver, found: SourceFiles) -> ModelName:
        """Download or copy it."""
        self._tally.model = found.name
        async with Arrival(self._of.store, self._of.folder, found.name) as arrival:
            for file in found.files:
                if file.path is not None:
                    await supply_from_disk(file, arrival, self._tally)
                else:
                    await supply_from_source(resolver.client, file, arrival, self._tally)
            return await self._finish_and_serve(arrival, found)

    async def _finish_and_serve(self, arrival: Arrival, found: SourceFiles) -> ModelName:
        self._tally.say("checking it")
        await arrival.finish()
        await self._serve(arrival, found.name, partial(_settings_of, found))
        return found.name

    async def _serve(self, arrival: Arrival, name: ModelName, make_settings: MakeSettings) -> None:
        self._tally.say("putting it in place")
        note = ModelNote(arrival.weights_sha256(), self._source, self._order.is_placed)
        place = arrival.place(make_settings, self._of.shelf.catalog.add)
        await self._of.shelf.put(place, note, name)

    async def _supply(self, file: FetchedFile, sink: ChunkSink, peers: PeersAsTheyChange, what: str) -> None:
        await supply_from_peers(
            self._of.fetcher, file, sink, peers, what=what, tally=self._tally, names=self._swarm.names
        )

    def _record(
        self, name: ModelName, *, manifest: Manifest | None = None, is_origin: bool = False
    ) -> ModelRecord:
        return ModelRecord(
            name,
            "fetching",
            size_bytes=manifest.size_bytes if manifest is not None else 0,
            manifest=manifest.id if manifest is not None else "",
            source=self._source,
            is_origin=is_origin,
            is_placed=self._order.is_placed,
        )

    async def _copies_when_there(self, matches: Matches) -> Copies:
        """Whole copies, as soon as somebody who is here has one."""
        while (copies := self._swarm.whole(matches)) is None:
            self._tally.say("waiting for a node that has it")
            await self._swarm.wait_until(lambda: self._swarm.whole(matches) is not None)
        return copies


def _settings_of(found: SourceFiles, names: Mapping[str, str]) -> bytes:
    """The YAML to keep beside what came from a source: its settings, its name and its files."""
    document: dict[str, Any] = yaml.safe_load(found.settings) or {}
    weights = min(file for file in names if file not in (SETTINGS, PROJECTOR))
    document["name"] = str(found.name)
    document["parameters"] = {**(document.get("parameters") or {}), "model": names[weights]}
    if PROJECTOR in names:
        document["mmproj"] = names[PROJECTOR]
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=True).encode()
