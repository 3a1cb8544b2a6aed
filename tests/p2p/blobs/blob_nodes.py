"""Nodes that fetch from each other, on the memory network and a clock that jumps."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio

from p2p.blobs.blob_messages import PROTOCOL_ID
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.file_fetch import FetchProgress
from p2p.blobs.manifest import ManifestFile
from p2p.blobs.reputation import Reputation
from p2p.blobs.seeder import Seeder
from p2p.blobs.upload import UploadLimits
from p2p.identity import Identity
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import PeerStream
from p2p.peer import PeerId
from tests.p2p.blobs.kept_files import KeptFile, KeptFiles, run_inline
from tests.p2p.people import identity

UNIX_TIME = 1_800_000_000.0


@dataclass
class BlobNode:
    """What one node has, gives and fetches."""

    network: MemoryNetwork
    files: KeptFiles
    seeder: Seeder
    fetcher: Fetcher
    reputation: Reputation
    running: trio.CancelScope
    is_busy: bool = False
    reports: list[FetchProgress] = field(default_factory=list)
    dropped: set[PeerId] = field(default_factory=set)
    """Who sent it wrong chunks."""

    @property
    def peer(self) -> PeerId:
        return self.network.me

    @property
    def streams(self) -> int:
        """To other nodes, for blobs, that nobody has ended."""
        connections = itertools.chain(*self.network._table._links.values())
        return sum(list(each.session.protocols()).count(PROTOCOL_ID) for each in connections)

    def expect(self, file: ManifestFile) -> KeptFile:
        """Room for `file`, from which others are given as it fills."""
        kept = self.files.files[file.key] = KeptFile(file.size_bytes)
        kept.sha256 = file.sha256
        return kept

    async def fetch(self, file: ManifestFile, *peers: PeerId) -> FetchProgress:
        """Fetch `file` from these, and give it to others meanwhile."""
        kept = self.files.files.get(file.key) or self.expect(file)
        fetched = FetchedFile.of_manifest(file, self.dropped)
        return await self.fetcher.fetch_file(fetched, kept, always(peers), self.reports.append)


async def always(peers: Iterable[PeerId]) -> AsyncIterator[Collection[PeerId]]:
    """All seeders that there will ever be."""
    await trio.lowlevel.checkpoint()
    yield frozenset(peers)


@asynccontextmanager
async def blob_node(
    hub: MemoryHub, who: Identity, *others: BlobNode, rate: float = 0.0
) -> AsyncIterator[BlobNode]:
    """A running node, connected to `others`, that sends no faster than `rate` bytes a second."""
    async with hub.network(who.peer_id) as network, trio.open_nursery() as nursery:
        files, reputation = KeptFiles(), Reputation()
        here: BlobNode

        def is_busy() -> bool:
            return here.is_busy

        seeder = Seeder(network, files, UploadLimits(rate=rate), is_busy)
        fetcher = Fetcher(
            network,
            reputation,
            Random(who.peer_id),
            wall_clock=lambda: UNIX_TIME + trio.current_time(),
            is_inference_busy=is_busy,
            run_blocking=run_inline,
        )
        here = BlobNode(network, files, seeder, fetcher, reputation, nursery.cancel_scope)
        nursery.start_soon(seeder.run)
        nursery.start_soon(fetcher.run)
        for other in others:
            await network.dial(other.network.listen_addresses[0])
        yield here
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted_seeder(
    hub: MemoryHub, who: Identity, script: Callable[[PeerStream], Awaitable[None]]
) -> AsyncIterator[MemoryNetwork]:
    """A peer that answers blob streams as `script` does."""
    async with hub.network(who.peer_id) as network:
        network.on_stream(PROTOCOL_ID, script)
        yield network


ANNA, BEN, CLEO, DORA, EMIL = (identity(name) for name in ("anna", "ben", "cleo", "dora", "emil"))
