"""Several homes with real files on one memory network, which get models from each other and from the web."""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Generic, TypeVar, cast

import outcome
import trio
import yaml

from ledger.records import ModelName, ModelRecord
from ledger.view import NodeState, NodeView
from node.install.coming import Coming
from node.install.installer import Installer
from node.install.manager import Manager, perform
from node.install.model_notes import ModelNotes
from node.install.order import Order
from node.install.shelf import Shelf
from node.install.swarm_watch import SwarmWatch
from node.install.tidying import tidy
from node.install.ways import Means
from node.jobs.errors import JobGoesOn
from node.jobs.job import Job, JobId
from node.jobs.runner import Jobs
from node.models.catalog import Catalog
from node.models.definition import ModelDefinition
from node.models.errors import ModelError, UnknownModel
from node.sources.galleries import Galleries
from node.sources.gallery_source import GallerySource
from node.sources.resolve import Resolver
from node.sources.source_client import SourceClient
from node.sources.source_settings import SourceSettings
from node.store.store import Identity, Store
from node.suggest.look import lack_of_memory_here
from node.worker import Worker
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import (
    FileKey,
    ManifestFile,
    ManifestId,
    chunk_count,
    hash_chunk,
    manifest_of,
)
from p2p.blobs.reputation import Reputation
from p2p.blobs.seeder import Seeder
from p2p.blobs.source import ChunkSource, Offer
from p2p.blobs.upload import UploadLimits
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.peer import PeerId
from p2p.revision import Revision
from tests.node.sources.web import Asked, Reply, Web, file_of

CHUNK = 16384
"""Bytes of a chunk in these tests."""
TINY = ModelName("tiny")
UNIX_TIME = 1_800_000_000.0

T = TypeVar("T")


def small_chunks(put: Callable[[object, str, object], None]) -> None:
    """Make chunks small in every module: `put` is as `setattr`."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("p2p.", "node.")) and hasattr(module, "CHUNK_SIZE"):
            put(module, "CHUNK_SIZE", CHUNK)


def gguf(chunks: int, seed: int = 1) -> bytes:
    """A model of so many chunks, the last one short."""
    header = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(40)
    return header + Random(seed).randbytes(chunks * CHUNK - len(header) - 100)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class SlowWeb(Web):
    """Stops in the middle of large files until it is told to go on."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.stops_after = sys.maxsize
        """Bytes of each large body."""
        self.goes_on = trio.Event()
        self.stuck = 0
        """Bodies that have stopped there, ever."""

    async def _say(self, stream: trio.abc.Stream, asked: Asked, reply: Reply) -> None:
        headers = {"content-length": str(len(reply.body)), "connection": "close", **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        if asked.method == "HEAD":
            return
        for start in range(0, len(reply.body), CHUNK):
            if start >= self.stops_after and len(reply.body) > CHUNK and not self.goes_on.is_set():
                self.stuck += 1
                await self.goes_on.wait()
            piece = reply.body[start : start + CHUNK]
            await stream.send_all(piece)
            self.sent_bytes += len(piece)

    def offer(self, content: bytes, path: str = "/tiny.gguf") -> str:
        """Have a file; returns its address."""
        self.pages[path] = file_of(content)
        return f"{self.root}{path}"

    def list_in_gallery(
        self, name: str, contents: Mapping[str, bytes], *, sha256: str = "", **fields: object
    ) -> None:
        """Have a model in the gallery, whose files it has too, with their hashes, or another one."""
        files = [
            {
                "filename": file,
                "uri": self.offer(content, f"/{name}/{file}"),
                "sha256": sha256 or sha256_of(content),
            }
            for file, content in contents.items()
        ]
        listed = [{"name": name, "files": files, **fields}]
        self.pages["/index.yaml"] = lambda asked: Reply(200, yaml.safe_dump(listed).encode())


class Look(trio.abc.Instrument, Generic[T]):
    """Looks at a condition after each step of any task, also of one that a thread has just ended for: between
    two of them nothing happens. So whatever it is about, no event need tell of it, and none is missed."""

    def __init__(self, condition: Callable[[], T | None]) -> None:
        self.over = trio.Event()
        self._condition = condition
        self.found = outcome.capture(condition)

    @property
    def is_over(self) -> bool:
        """It is so, or cannot be looked at."""
        return isinstance(self.found, outcome.Error) or bool(self.found.value)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        if not self.over.is_set():
            self.found = outcome.capture(self._condition)
            if self.is_over:
                self.over.set()


@dataclass
class _Served:
    definition: ModelDefinition
    identity: Identity | None = None
    life: trio.CancelScope = field(default_factory=trio.CancelScope)


class FakeWorker:
    """What a shelf asks of a `Worker`, without engines. Who `holds` a model has a request running on it."""

    def __init__(self, store: Store, nursery: trio.Nursery) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.served: dict[ModelName, _Served] = {}
        self.running: dict[ModelName, trio.Event] = {}
        self.draining: set[ModelName] = set()
        self.budget_bytes = 2**30
        """That models may take in memory."""
        self._store = store
        self._nursery = nursery

    def monitor(self) -> dict[str, int]:
        return {"budget_bytes": self.budget_bytes}

    def cancel_job(self, job_id: JobId) -> bool:
        if job_id == "load-busy":
            raise JobGoesOn("requests wait for it")
        return job_id == "load-tiny"

    def model_records(self) -> list[ModelRecord]:
        return [self._record(name, served) for name, served in sorted(self.served.items())]

    def add_model(self, definition: ModelDefinition) -> None:
        served = self.served[definition.name] = _Served(definition)
        self._nursery.start_soon(self._identify, served)
        self.on_change()

    async def remove_model(self, name: ModelName) -> None:
        served = self.served.pop(name, None)
        if served is None:
            raise UnknownModel(name)
        if name in self.running:
            self.draining.add(name)
            self.on_change()
            try:
                await self.running[name].wait()
            except trio.Cancelled:
                self.served[name] = served
                raise
            finally:
                self.draining.discard(name)
        served.life.cancel()
        if served.identity is not None:
            self._store.forget(served.identity)
        self.on_change()

    def _record(self, name: ModelName, served: _Served) -> ModelRecord:
        definition, identity = served.definition, served.identity
        return ModelRecord(
            name,
            "failed" if definition.problem else "cold",
            size_bytes=definition.size_bytes,
            sha256=identity.sha256 if identity else "",
            manifest=identity.manifest.id if identity else "",
        )

    async def _identify(self, served: _Served) -> None:
        with served.life:
            if not served.definition.problem:
                # A file that is taken away meanwhile is not known. The real one tries again, later.
                with suppress(ModelError):
                    served.identity = await self._store.identify(served.definition)
                    self.on_change()


class Home:
    """One node, from its start to its end. Its folder stays."""

    def __init__(self, town: Town, peer: PeerId, folder: Path, nursery: trio.Nursery) -> None:
        self.town = town
        self.peer = peer
        self.folder = folder
        self.models = folder / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        self.revision = Revision()
        self.nursery = nursery
        self.lies: dict[ModelName, ModelRecord] = {}
        """Records that it tells the others instead of true ones."""
        self.hidden: set[PeerId] = set()
        """Whom it has not heard of yet."""
        self.gallery = "index.yaml"
        """Where it looks for the gallery."""

    def wire(self, network: MemoryNetwork, seeds: ChunkSource | None, memory_bytes: int) -> None:
        """Make the parts, and start them."""
        folder = self.folder
        self.store = Store(hashes=folder / "hashes", manifests=folder / "manifests")
        self.catalog = Catalog(self.models, memory_bytes=memory_bytes)
        self.catalog.read()
        self.worker = FakeWorker(self.store, self.nursery)
        self.worker.on_change = self.town.tell_all
        self.shelf = Shelf(self.catalog, cast("Worker", self.worker), ModelNotes(folder / "models.json"))
        self.coming = Coming()
        self.coming.on_change = self.town.tell_all
        self.reputation = Reputation()
        self.seeder = Seeder(network, seeds or self.store, UploadLimits(), lambda: False)
        fetcher = Fetcher(
            network,
            self.reputation,
            Random(self.peer),
            wall_clock=lambda: UNIX_TIME,
            is_inference_busy=lambda: False,
        )
        means = Means(
            swarm=SwarmWatch(self, self.peer),
            store=self.store,
            shelf=self.shelf,
            fetcher=fetcher,
            folder=self.models,
            coming=self.coming,
            lack_of_memory=partial(lack_of_memory_here, cast("Worker", self.worker)),
        )
        self.installer = Installer(means, self._resolver)
        self.jobs = Jobs(
            folder / "jobs.json",
            partial(perform, self.installer),
            partial(tidy, self.models, self.store.manifests),
        )
        self.manager = Manager(self.jobs, self.shelf, self._galleries, models_size_max=2**30)
        for definition in self.catalog.definitions.values():
            self.worker.add_model(definition)
        for run in (self.seeder.run, fetcher.run, self.jobs.run):
            self.nursery.start_soon(run)

    def nodes(self) -> Sequence[NodeView]:
        """As a `View`."""
        return [self._row(peer) for peer in sorted(self.town.rows) if peer not in self.hidden]

    def _row(self, peer: PeerId) -> NodeView:
        home = self.town.homes.get(peer)
        if home is not None:
            self.town.rows[peer] = home.records()
        state: NodeState = "offline" if home is None else "online"
        return NodeView(peer, peer, state, "worker", "1", models=self.town.rows[peer])

    def records(self) -> tuple[ModelRecord, ...]:
        """What it tells the others."""
        noted = []
        for record in self.worker.model_records():
            note = self.shelf.notes.of(record.name, record.sha256)
            noted.append(replace(record, source=note.source, is_placed=note.is_placed))
        records = {record.name: record for record in (*noted, *self.coming.beside(noted))}
        return tuple({**records, **self.lies}.values())

    def order(self, reference: str = "", **fields: object) -> Job:
        return self.manager.order(Order(reference, **fields))  # type: ignore[arg-type]

    async def pull(self, reference: str = "", **fields: object) -> Job:
        """The job, once it has ended."""
        return await self.jobs.wait_ended(self.order(reference, **fields).id)

    def keep(self, content: bytes, name: str = "tiny", **settings: object) -> Path:
        """Have a model that its owner put there, from now on."""
        path = self.models / f"{name}.gguf"
        path.write_bytes(content)
        if settings:
            path.with_suffix(".yaml").write_text(yaml.safe_dump(settings))
        self.serve(path)
        return path

    def serve(self, path: Path) -> None:
        self.worker.add_model(self.catalog.add(str(path)))

    async def knows(self, name: ModelName = TINY) -> ModelRecord:
        """What it says of that model, once it is hashed."""
        return await self.until(lambda: self.whole(name))

    def whole(self, name: ModelName = TINY) -> ModelRecord | None:
        return next((each for each in self.worker.model_records() if each.name == name and each.sha256), None)

    async def until(self, condition: Callable[[], T | None]) -> T:
        """What `condition` returns, as soon as that is anything."""
        look = Look(condition)
        if not look.is_over:
            trio.lowlevel.add_instrument(look)
            try:
                await look.over.wait()
            finally:
                trio.lowlevel.remove_instrument(look)
        return cast("T", look.found.unwrap())

    def left(self) -> list[str]:
        """Everything in its models folder, by path."""
        return sorted(str(path.relative_to(self.models)) for path in self.models.rglob("*") if path.is_file())

    def chunks(self, file: str = "tiny.gguf") -> int:
        """How many chunks have come of a file that is on its way."""
        partials = set(self.store._growing.values())
        return sum(partial.have.count for partial in partials if partial.path.name == file)

    def end(self) -> None:
        """As a crash: nothing is said to anybody."""
        self.nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _galleries(self) -> AsyncIterator[Galleries]:
        sources = [GallerySource.parse(f"home={self.town.web.root}/{self.gallery}")]
        async with SourceClient(silence_max=60.0) as client:
            yield Galleries(sources, client, self.folder / "galleries")

    @asynccontextmanager
    async def _resolver(self) -> AsyncIterator[Resolver]:
        async with self._galleries() as galleries:
            web = self.town.web
            settings = SourceSettings((web.url("/"),), "", (web.url("/"),))
            yield Resolver(galleries.client, settings, galleries)


@dataclass
class Stock:
    """A `ChunkSource` that gives whatever a test wants it to."""

    files: dict[FileKey, bytes] = field(default_factory=dict)
    manifests: dict[ManifestId, bytes] = field(default_factory=dict)

    def add(self, *files: tuple[ManifestFile, bytes]) -> ManifestId:
        """Give these, and their manifest."""
        manifest = manifest_of(file for file, _ in files)
        self.manifests[manifest.id] = manifest.encode()
        self.files |= {file.key: content for file, content in files}
        return manifest.id

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.manifests.get(manifest)

    def offer(self, file: FileKey) -> Offer | None:
        if (content := self.files.get(file)) is None:
            return None
        have = HaveMap.full(chunk_count(len(content)))
        return Offer(len(content), have, b"", sha256_of(content), is_growing=False, changed=Revision())

    async def read(self, file: FileKey, chunk: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.files[file][chunk * CHUNK : (chunk + 1) * CHUNK]


def listed(content: bytes, name: str = "model.gguf", sha256: str = "") -> ManifestFile:
    """What a manifest says of a file; `sha256`: a lie."""
    chunks = (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))
    return ManifestFile(name, len(content), sha256 or sha256_of(content), b"".join(map(hash_chunk, chunks)))


class Town:
    """All homes."""

    def __init__(self, folder: Path, web: SlowWeb) -> None:
        self.folder = folder
        self.web = web
        self.hub = MemoryHub(seed=1)
        self.homes: dict[PeerId, Home] = {}
        self.networks: dict[PeerId, MemoryNetwork] = {}
        self.rows: dict[PeerId, tuple[ModelRecord, ...]] = {}

    def tell_all(self) -> None:
        for home in self.homes.values():
            home.revision.rise()

    @asynccontextmanager
    async def home(
        self, name: str, *, seeds: ChunkSource | None = None, memory_bytes: int = 2**30
    ) -> AsyncIterator[Home]:
        """A home that runs within, connected to all others. `seeds`: what it gives, if not its files."""
        peer = PeerId(name)
        async with self.hub.network(peer) as network, trio.open_nursery() as nursery:
            for other in self.networks.values():
                await network.dial(other.listen_addresses[0])
            here = Home(self, peer, self.folder / name, nursery)
            here.wire(network, seeds, memory_bytes)
            self.homes[peer], self.networks[peer], self.rows[peer] = here, network, ()
            self.tell_all()
            try:
                yield here
            finally:
                self.rows[peer] = here.records()
                del self.homes[peer], self.networks[peer]
                nursery.cancel_scope.cancel()
                self.tell_all()

    @asynccontextmanager
    async def living(self, *names: str) -> AsyncIterator[list[Home]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.home(name)) for name in names]


def in_town(folder: Path, test: Callable[[Town], Awaitable[None]]) -> None:
    """Run `test`, with a web server."""

    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        web = SlowWeb(listeners[0].socket.getsockname()[1])
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, web.answer, listeners)
                await test(Town(folder, web))
                nursery.cancel_scope.cancel()

    trio.run(main)
