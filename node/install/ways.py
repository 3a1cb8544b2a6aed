"""The three ways in which a model comes: from who has all of it, from who downloads it, from its source.

Each leaves a model that is served, or what came of it for the next one who goes on. Which way it is to be,
and what comes after one that led nowhere, `installer.py` decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from ledger.records import ModelName, ModelRecord
from node.install.arrival import Arrival
from node.install.coming import Coming
from node.install.errors import NotSame, TakesNoModels
from node.install.memory_sink import MemorySink
from node.install.model_notes import ModelNote
from node.install.order import Order
from node.install.search import Copies, getting, of_manifest, of_source, seeders
from node.install.shelf import Shelf
from node.install.supply import supply_from_disk, supply_from_peers, supply_from_source
from node.install.swarm_watch import PeersAsTheyChange, SwarmWatch
from node.install.tally import Tally
from node.install.turns import Turns
from node.install.weighing import LackOfMemory, Weighing
from node.models.errors import BadModelFile, BadModelYaml, ModelTooLarge
from node.models.model_name import parse_model_name
from node.models.model_yaml import parse_model_yaml
from node.models.yaml_writer import write_yaml
from node.sources.source_client import SourceClient
from node.sources.source_files import SourceFile, SourceFiles
from node.store.errors import WrongContent
from node.store.model_files import PROJECTOR, SETTINGS, require_model, settings_at_home, weights_sha256
from node.store.partial_disk import WantedFile
from node.store.reuse import reuse_chunks
from node.store.store import Store
from p2p.blobs.errors import BadManifest, NobodyHasIt
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.manifest import FileKey, Manifest, ManifestFile, decode_manifest_untrusted
from p2p.blobs.sink import ChunkSink
from p2p.peer import PeerId

_LEADER_PAUSE = 1.0
"""Seconds between two looks whether who downloads has come to a file: it tells nobody when."""
_STALL_TIME = 10.0
"""Seconds without a byte, after which what nobody has whole any more is looked for elsewhere."""
_PATIENCE = 60.0
"""The same where somebody says to have all of it: a peer that is only busy sends a byte sooner."""
_LEADER_PATIENCE = 600.0
"""The same of who downloads it, while nobody has all of it: over the slowest line, 7 KB/s, a chunk takes that
long to get there. Its disk may hang, and only it would know."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every order is carried out with."""

    swarm: SwarmWatch
    store: Store
    shelf: Shelf
    fetcher: Fetcher
    folder: Path
    """Where models are kept."""
    coming: Coming
    lack_of_memory: LackOfMemory
    turns: Turns = field(default_factory=Turns)
    """By the name of a model, and by the key of a file: two orders for one wait for each other."""


class Ways:
    """Those of one order, in one task."""

    def __init__(self, means: Means, order: Order, tally: Tally, warn: Callable[[str], None]) -> None:
        """`warn` is told what a person should know."""
        self._of = means
        self._swarm = means.swarm
        self._order = order
        self._tally = tally
        self._weighing = Weighing(means.shelf.catalog, means.lack_of_memory, warn)
        self.source = FileKey("")
        """What it is known by to others that want the same from there; empty: it is from nowhere outside."""
        self._waits_for_peers = False
        """What would come now comes from them."""

    def mine(self) -> ModelName | None:
        """What is here already from that source, as it is to be called."""
        mine = self._of.shelf.from_source(self.source) if self.source else None
        return mine if self._order.name in ("", mine) else None

    def whole(self) -> Copies | None:
        """Whole copies of what came from there, at others."""
        return self._swarm.whole(of_source(self.source))

    async def take(
        self, copies: Copies, manifest: Manifest, found: SourceFiles | None = None
    ) -> ModelName | None:
        """Get it from peers, with the settings of `found`, if that is given. None: nothing comes.

        Raises:
          TakesNoModels: the swarm wants it here, and its owner has another one of that name.
          NotSame: peers gave something else than they said.
          NodeError, P2PError: it cannot be put here; ModelTooLarge before any of it comes.
        """
        name = parse_model_name(self._order.name or (found.name if found is not None else copies.name))
        self._tally.model = name
        if (
            self._order.is_placed
            and self._of.shelf.is_owned(name)
            and not self._of.shelf.has(name, copies.sha256)
        ):
            raise TakesNoModels(f"there is another {name} here, which its owner put there")
        is_stalled = self._stall()

        def is_gone() -> bool:
            is_there = self._swarm.whole(of_manifest(manifest.id)) is not None
            return is_stalled(_PATIENCE if is_there else _STALL_TIME)

        with self._of.coming.shown(self._record(name, manifest=manifest)):
            try:
                taken = await self._swarm.until(
                    is_gone, partial(self._take_all, name, copies, manifest, found)
                )
            except ModelTooLarge:
                await self._of.store.manifests.drop(manifest.id)
                raise
            except (WrongContent, BadModelYaml, BadModelFile) as error:
                # Nobody is to go on with that.
                await self._of.store.manifests.drop(manifest.id)
                raise NotSame(f"peers gave something else than {name}: {error}") from error
        if taken is not None:
            await self._of.store.manifests.drop(manifest.id)
        return taken

    async def _take_all(
        self, name: ModelName, copies: Copies, manifest: Manifest, found: SourceFiles | None
    ) -> ModelName:
        async with self._turn(name, manifest.files):
            if self.mine() == name or (found is None and self._of.shelf.has(name, copies.sha256)):
                return name
            async with self._arrival(name) as arrival:
                await self._weighing.add(name, {file.name: file.size_bytes for file in manifest.files})
                dropped: set[PeerId] = set()
                shared = await self._take_files(manifest, arrival, dropped)
                make_settings = partial(settings_at_home, shared, name)
                self._tally.say("checking it")
                await arrival.finish(make_settings if found is None else partial(_settings_of, found))
                self._of.fetcher.note_wrong(manifest.id, dropped)
                await self._serve(arrival, name)
        return name

    async def manifest(self, copies: Copies) -> Manifest:
        """The list of its files, kept until they are here.

        Raises:
          NobodyHasIt: no holder gives it.
          NotSame: it is not one of what holders say they have.
        """
        self._tally.say("asking what its files are")
        kept = await self._of.store.manifests.get(copies.manifest)
        if kept is not None:
            manifest = decode_manifest_untrusted(kept)
        else:
            manifest = await self._of.fetcher.fetch_manifest(copies.manifest, copies.peers)
        try:
            require_model(manifest)
        except BadManifest as error:
            raise NotSame(f"what peers call {copies.name} is no model: {error}") from error
        if weights_sha256(manifest) != copies.sha256:
            raise NotSame(f"what peers call {copies.name} has other weights than they say")
        if kept is None:
            await self._of.store.manifests.keep(manifest)
        return manifest

    async def _take_files(self, manifest: Manifest, arrival: Arrival, dropped: set[PeerId]) -> bytes:
        """All files but the settings, which are returned. Who sends a wrong chunk is `dropped`."""
        for file in manifest.files:
            self._tally.note(file.name, file.size_bytes, 0, {})
        shared = b""
        # The settings first: what is wrong with them shows before anything large has come.
        for file in sorted(manifest.files, key=lambda file: file.name != SETTINGS):
            peers = self._swarm.peers(
                partial(seeders, me=self._swarm.me, manifest=manifest.id, sha256=file.sha256)
            )
            fetched = FetchedFile.of_manifest(file, dropped)
            if file.name == SETTINGS:
                sink = MemorySink(file.size_bytes)
                await self._supply(fetched, sink, peers, file.name)
                shared = sink.whole()
                if hashlib.sha256(shared).hexdigest() != file.sha256:
                    raise WrongContent(f"{SETTINGS} has another sha256")
                parse_model_yaml(shared, source=SETTINGS)
                continue
            coming = await arrival.open(file.name, WantedFile.of(file))
            self._tally.say(f"looking for {file.name} on this disk")
            await reuse_chunks(coming, self._of.store.hasher.cache)
            await self._supply(fetched, coming, peers, file.name)
        return shared

    async def follow(self, leader: PeerId, found: SourceFiles) -> ModelName | None:
        """Take it from who downloads it, as it comes. None: it is gone, or does not give it any more.

        Raises:
          WrongContent: what came is not what it said in the end; it is gone.
          NodeError, P2PError: it cannot be put here.
        """
        is_stalled = self._stall()

        def is_over() -> bool:
            if leader not in getting(self._swarm.nodes(), self._swarm.me, self.source):
                return True
            if not self._of.fetcher.may_use(leader):
                return True  # Banned, for what it gave of other models.
            # It has all of it, and was started anew: it does not know what it called it while it came.
            return is_stalled(_LEADER_PATIENCE if self.whole() is None else _STALL_TIME)

        with self._of.coming.shown(self._record(found.name)):
            return await self._swarm.until(is_over, partial(self._follow_all, leader, found))

    async def _follow_all(self, leader: PeerId, found: SourceFiles) -> ModelName:
        self._tally.model = found.name
        async with self._turn(found.name, found.files):
            if (mine := self.mine()) is not None:
                return mine
            async with self._arrival(found.name) as arrival:
                for file in found.files:
                    await self._follow_file(leader, file, arrival)
                return await self._finish_and_serve(arrival, found)

    async def _follow_file(self, leader: PeerId, file: SourceFile, arrival: Arrival) -> None:
        self._tally.say(f"waiting for {file.name} to be found", is_waiting=True)
        file, size_bytes = await self._known_to(leader, file)
        await self._weighing.add(self._tally.model, {file.name: size_bytes})
        wanted = WantedFile(file.key, size_bytes, file.sha256, version=file.version)
        coming = await arrival.open(file.name, wanted, also_known_as=[file.of_any_version.key])
        fetched = FetchedFile.of_origin(file.key, size_bytes, leader, file.sha256)
        peers = self._swarm.peers(partial(getting, me=self._swarm.me, source=self.source))
        await self._supply(fetched, coming, peers, file.name)
        coming.sha256 = fetched.sha256

    async def _known_to(self, leader: PeerId, file: SourceFile) -> tuple[SourceFile, int]:
        """A file that `leader` is downloading, or will be once it has those before it, and its size in bytes.

        Of the version that we were told of, or else of whichever `leader` has: what comes of that is of no
        use once it is gone, since nobody knows what belongs to it.
        """
        if file.sha256 and file.size_bytes is not None:
            return file, file.size_bytes
        with self._on_peers():
            while True:
                for known in (file, file.of_any_version):
                    with suppress(NobodyHasIt):
                        return known, (await self._of.fetcher.describe(known.key, leader)).size_bytes
                await trio.sleep(_LEADER_PAUSE)

    async def download(self, client: SourceClient, found: SourceFiles) -> ModelName:
        """Download it, while others may take it from here.

        Raises:
          SourceError: it cannot be had; what came is kept.
          NodeError, P2PError: it cannot be put here.
        """
        with self._of.coming.shown(self._record(found.name, is_origin=True)):
            return await self.load(client, found)

    async def load(self, client: SourceClient, found: SourceFiles) -> ModelName:
        """The same, and nobody is told.

        Raises: as `download`.
        """
        self._tally.model = found.name
        async with self._turn(found.name, found.files):
            if (mine := self.mine()) is not None:
                return mine
            async with self._arrival(found.name) as arrival:
                told = {file.name: file.size_bytes for file in found.files if file.size_bytes is not None}
                await self._weighing.add(found.name, told)
                for file in found.files:
                    here = file.path or (await self._of.store.find(file.sha256) if file.sha256 else None)
                    if here is not None:
                        await supply_from_disk(file, here, arrival, self._tally)
                    else:
                        await supply_from_source(client, file, arrival, self._tally, self._weighing)
                return await self._finish_and_serve(arrival, found)

    async def _finish_and_serve(self, arrival: Arrival, found: SourceFiles) -> ModelName:
        self._tally.say("checking it")
        try:
            await arrival.finish(partial(_settings_of, found))
        except WrongContent as error:
            senders = ", ".join(self._tally.sources) or found.files[0].canonical
            raise WrongContent(f"{error}; it came from {senders} and is deleted") from error
        await self._serve(arrival, found.name)
        return found.name

    async def _serve(self, arrival: Arrival, name: ModelName) -> None:
        # Once nothing runs on the model that it replaces, if there is one.
        self._tally.say("putting it in place", is_waiting=True)
        note = ModelNote(arrival.weights_sha256(), self.source, self._order.is_placed)
        await self._of.shelf.put(arrival.place, note, name)

    @asynccontextmanager
    async def _turn(self, name: ModelName, files: Iterable[ManifestFile | SourceFile]) -> AsyncIterator[None]:
        """Nobody else gets the model of that name within, or one of these files."""
        self._tally.say("waiting for another order that gets the same", is_waiting=True)
        async with self._of.turns.of([f"name:{name}", *(file.key for file in files)]):
            self._tally.say("looking at what came before")
            yield

    def _arrival(self, name: ModelName) -> Arrival:
        return Arrival(self._of.store, self._of.shelf.catalog, self._of.folder, name)

    async def _supply(self, file: FetchedFile, sink: ChunkSink, peers: PeersAsTheyChange, what: str) -> None:
        with self._on_peers():
            await supply_from_peers(
                self._of.fetcher, file, sink, peers, what=what, tally=self._tally, names=self._swarm.names
            )

    @contextmanager
    def _on_peers(self) -> Iterator[None]:
        self._waits_for_peers = True
        try:
            yield
        finally:
            self._waits_for_peers = False

    def _stall(self) -> Callable[[float], bool]:
        """Tells, asked again and again, whether peers have given nothing for so many seconds."""
        done_bytes, since = self._tally.done_bytes, trio.current_time()

        def is_stalled(patience: float) -> bool:
            nonlocal done_bytes, since
            if self._tally.done_bytes != done_bytes or not self._waits_for_peers:
                done_bytes, since = self._tally.done_bytes, trio.current_time()
            return trio.current_time() >= since + patience

        return is_stalled

    def _record(
        self, name: ModelName, *, manifest: Manifest | None = None, is_origin: bool = False
    ) -> ModelRecord:
        return ModelRecord(
            name,
            "fetching",
            size_bytes=manifest.size_bytes if manifest is not None else 0,
            manifest=manifest.id if manifest is not None else "",
            source=self.source,
            is_origin=is_origin,
            is_placed=self._order.is_placed,
        )


def _settings_of(found: SourceFiles, names: Mapping[str, str]) -> bytes:
    """The YAML to keep beside what came from a source: its settings, its name and its files."""
    weights = min(file for file in names if file not in (SETTINGS, PROJECTOR))
    parameters = {**found.settings.get("parameters", {}), "model": names[weights]}
    document = {**found.settings, "name": str(found.name), "parameters": parameters}
    if PROJECTOR in names:
        document["mmproj"] = names[PROJECTOR]
    return write_yaml(document)
