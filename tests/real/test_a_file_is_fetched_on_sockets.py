"""A file goes from two seeders to one fetcher over real sockets, checked in threads."""

from __future__ import annotations

from random import Random

import pytest
import trio

from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.fetcher import Fetcher
from p2p.blobs.manifest import CHUNK_SIZE
from p2p.blobs.reputation import Reputation
from p2p.blobs.seeder import Seeder
from p2p.blobs.upload import UploadLimits
from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from tests.p2p.blobs.blob_nodes import UNIX_TIME, always
from tests.p2p.blobs.kept_files import KeptFile, KeptFiles, contents

pytestmark = pytest.mark.real

PSK = bytes(range(32))
ALICE, BOB, CAROL = (Identity(letter * 32) for letter in (b"a", b"b", b"c"))
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]
DATA = contents(9)


async def give(
    who: Identity, files: KeptFiles, *, task_status: trio.TaskStatus[Libp2pNetwork] = trio.TASK_STATUS_IGNORED
) -> None:
    async with Libp2pNetwork.open(who, PSK, listen=LOOPBACK) as network:
        task_status.started(network)
        await Seeder(network, files, UploadLimits(), lambda: False).run()


def test_a_file_and_its_manifest_come_over_real_sockets_in_spite_of_a_corrupt_seeder() -> None:
    async def main() -> None:
        honest, corrupt = KeptFiles(), KeptFiles()
        manifest = honest.add(DATA)
        corrupt.add(DATA)
        corrupt.corrupt.add(manifest.files[0].key)
        async with trio.open_nursery() as nursery, Libp2pNetwork.open(CAROL, PSK, listen=LOOPBACK) as carol:
            for who, files in ((ALICE, honest), (BOB, corrupt)):
                network: Libp2pNetwork = await nursery.start(give, who, files)
                await carol.dial(network.listen_addresses[0])
            fetcher = Fetcher(
                carol,
                Reputation(),
                Random(1),
                wall_clock=lambda: UNIX_TIME,
                is_inference_busy=lambda: False,
            )
            nursery.start_soon(fetcher.run)
            peers = [ALICE.peer_id, BOB.peer_id]
            assert await fetcher.fetch_manifest(manifest.id, peers) == manifest
            (file,) = manifest.files
            kept = KeptFile(file.size_bytes)
            fetched = FetchedFile.of_manifest(file)
            progress = await fetcher.fetch_file(fetched, kept, always(peers))
            assert kept.data == DATA
            assert progress.wasted_bytes <= 3 * CHUNK_SIZE
            assert fetched.dropped == {BOB.peer_id}
            nursery.cancel_scope.cancel()

    async def within_time() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(within_time)
