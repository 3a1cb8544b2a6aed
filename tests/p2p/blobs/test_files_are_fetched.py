"""Seeders and fetchers whole, on the memory network: files arrive, whatever befalls the peers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack

import pytest
import trio

from p2p.blobs.blob_messages import FRAME_SIZE_MAX, Data, Have, encode
from p2p.blobs.errors import NobodyHasIt, SinkFailed, SinkFull
from p2p.blobs.fetch_events import UNDER_WAY_MAX
from p2p.blobs.fetch_pace import BUSY_RATE
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.file_fetch import PLACE_TIME, RETRY_DELAY_MAX, SEEDERS_MAX
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, ManifestId, source_key
from p2p.blobs.reputation import BAN_TIME
from p2p.frame_stream import FrameStream
from p2p.memory_network import MemoryHub
from p2p.network import PeerStream
from p2p.peer import PeerId
from tests.mock_time import run
from tests.p2p.blobs.blob_nodes import (
    ANNA,
    BEN,
    CLEO,
    DORA,
    UNIX_TIME,
    BlobNode,
    always,
    blob_node,
    scripted_seeder,
)
from tests.p2p.blobs.kept_files import KeptFile, contents, manifest_file
from tests.p2p.people import identity

DATA = contents(7)
(FILE,) = [manifest_file(DATA)]


def test_a_file_comes_whole_once_and_leaves_no_stream() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            progress = await ben.fetch(FILE, anna.peer)
            assert ben.files.files[FILE.key].data == DATA
            assert progress.received_bytes == {anna.peer: len(DATA)}
            assert progress.stored_bytes == progress.size_bytes == len(DATA)
            assert progress.wasted_bytes == 0
            assert anna.seeder.uploaded == {ben.peer: len(DATA)}
            assert ben.fetcher.received == {anna.peer: len(DATA)}
            assert not anna.seeder.uploading()
            await trio.sleep(1)
            assert ben.streams == anna.streams == 0

    run(main)


def test_what_is_there_already_is_not_fetched() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            kept = ben.expect(FILE)
            for chunk in range(5):
                kept.keep(chunk, DATA[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE])
            progress = await ben.fetch(FILE, anna.peer)
            assert kept.data == DATA
            assert sum(progress.received_bytes.values()) == len(DATA) - 5 * CHUNK_SIZE
            # And where all is there, nobody is asked.
            assert (await ben.fetch(FILE, anna.peer)).received_bytes == {}

    run(main)


def test_those_who_fetch_from_one_seeder_give_to_each_other() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        data = contents(24)
        file = manifest_file(data)
        async with AsyncExitStack() as stack:
            anna = await stack.enter_async_context(blob_node(hub, ANNA, rate=20e6))
            nodes: list[BlobNode] = []
            for who in (BEN, CLEO, DORA):
                nodes.append(await stack.enter_async_context(blob_node(hub, who, anna, *nodes, rate=100e6)))
            anna.files.add(data)
            peers = [anna.peer, *(node.peer for node in nodes)]
            for node in nodes:
                node.expect(file)
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(node.fetch, file, *(peer for peer in peers if peer != node.peer))
            assert all(node.files.files[file.key].data == data for node in nodes)
            assert anna.seeder.uploaded.total() < 1.5 * len(data)
            assert sum(node.seeder.uploaded.total() for node in nodes) > len(data)

    run(main)


def test_when_a_seeder_dies_the_rest_comes_from_another() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            blob_node(hub, ANNA, rate=20e6) as anna,
            blob_node(hub, BEN, rate=20e6) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            anna.files.add(DATA)
            ben.files.add(DATA)

            async def kill_anna() -> None:
                while cleo.files.files[FILE.key].have.count < 3:
                    await cleo.files.files[FILE.key].changed.after(cleo.files.files[FILE.key].changed.number)
                hub.kill(anna.peer)

            cleo.expect(FILE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_anna)
                progress = await cleo.fetch(FILE, anna.peer, ben.peer)
            assert cleo.files.files[FILE.key].data == DATA
            # The chunk that was on its way from her.
            assert progress.wasted_bytes <= CHUNK_SIZE

    run(main)


def test_a_corrupt_seeder_is_dropped_for_all_files_of_a_manifest_and_nothing_of_it_is_kept() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        datas = [contents(3, seed=seed) for seed in range(2)]
        async with (
            blob_node(hub, ANNA) as anna,
            blob_node(hub, BEN) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            anna.files.add(*datas)
            ben.files.add(*datas)
            ben.files.corrupt |= set(ben.files.files)
            for data in datas:
                await cleo.fetch(manifest_file(data), anna.peer, ben.peer)
                assert cleo.files.files[manifest_file(data).key].data == data
                assert cleo.dropped == {ben.peer}
                # What was on its way when the first wrong one was found; of the second file nothing.
                assert ben.seeder.uploaded.total() <= 2 * CHUNK_SIZE

    run(main)


def test_who_sends_wrong_chunks_of_three_manifests_that_are_true_is_banned() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            blob_node(hub, ANNA) as anna,
            blob_node(hub, BEN) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            for seed in range(3):
                manifest = anna.files.add(contents(3, seed=seed))
                ben.files.add(contents(3, seed=seed))
                ben.files.corrupt |= set(ben.files.files)
                await cleo.fetch(manifest.files[0], anna.peer, ben.peer)
                # A wrong chunk alone says nothing: the manifest may be what lies.
                assert not cleo.reputation.is_banned(ben.peer, UNIX_TIME)
                cleo.fetcher.note_wrong(manifest.id, cleo.dropped)
                cleo.dropped.clear()
            assert cleo.reputation.is_banned(ben.peer, UNIX_TIME)
            assert not cleo.reputation.is_banned(anna.peer, UNIX_TIME)

    run(main)


def test_a_banned_peer_is_not_even_asked() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            manifest = anna.files.add(DATA)
            for key in ("1", "2", "3"):
                ben.reputation.note_wrong(anna.peer, ManifestId(key * 64), UNIX_TIME)
            with trio.move_on_after(60):
                await ben.fetch(manifest.files[0], anna.peer)
            assert ben.reports[-1].waiting == "no peer offers this file now"
            assert anna.seeder.uploaded.total() == 0
            with pytest.raises(NobodyHasIt):
                await ben.fetcher.fetch_manifest(manifest.id, [anna.peer])

    run(main)


def test_a_fetch_goes_on_once_a_ban_has_ended() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            for key in ("1", "2", "3"):
                ben.reputation.note_wrong(anna.peer, ManifestId(key * 64), UNIX_TIME + 300 - BAN_TIME)
            with trio.fail_after(300 + RETRY_DELAY_MAX + 1):
                await ben.fetch(FILE, anna.peer)
            assert trio.current_time() > 300

    run(main)


def test_a_fetch_waits_with_a_reason_until_somebody_has_the_file() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:

            async def later() -> None:
                await trio.sleep(300)
                assert ben.reports[-1].waiting == "no peer offers this file now"
                anna.files.add(DATA)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(later)
                with trio.fail_after(300 + 31):
                    await ben.fetch(FILE, anna.peer)
            assert ben.reports[-1].waiting == ""

    run(main)


def test_seeders_come_and_go_while_it_runs() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            blob_node(hub, ANNA, rate=10e6) as anna,
            blob_node(hub, BEN) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            anna.files.add(DATA)
            ben.files.add(DATA)
            kept = cleo.expect(FILE)
            send, seeders = trio.open_memory_channel[frozenset[str]](0)

            async def change() -> None:
                await send.send(frozenset({anna.peer}))
                await kept.changed.after(0)
                await send.send(frozenset())
                await trio.sleep(10)
                count = kept.have.count
                await trio.sleep(100)
                assert kept.have.count == count
                assert cleo.streams == 0
                # Gone and back at once, and for good.
                for peers in ({anna.peer}, set(), {anna.peer}, set(), {ben.peer}):
                    await send.send(frozenset(peers))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(change)
                with trio.fail_after(120):
                    await cleo.fetcher.fetch_file(
                        FetchedFile.of_manifest(FILE),
                        kept,
                        seeders,  # type: ignore[arg-type]
                    )
            assert kept.data == DATA
            assert ben.seeder.uploaded[cleo.peer] > 0

    run(main)


@pytest.mark.parametrize("failure", [SinkFull("no room"), SinkFailed("read-only")])
def test_what_the_disk_does_not_take_ends_the_fetch_and_says_so(failure: Exception) -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            ben.expect(FILE).failure = failure
            with pytest.raises(type(failure)):
                await ben.fetch(FILE, anna.peer)
            await trio.sleep(1)
            assert ben.streams == 0
            # It goes on where it was, once there is room.
            ben.files.files[FILE.key].failure = None
            await ben.fetch(FILE, anna.peer)
            assert ben.files.files[FILE.key].data == DATA

    run(main)


def test_a_chunk_that_the_disk_lost_meanwhile_is_fetched_again() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA, rate=20e6) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            kept = ben.expect(FILE)

            async def lose() -> None:
                await kept.changed.after(1)
                (*_, chunk) = (chunk for chunk in range(FILE.chunk_count) if chunk in kept.have)
                kept.have.discard(chunk)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose)
                progress = await ben.fetch(FILE, anna.peer)
            assert kept.have.is_full
            assert sum(progress.received_bytes.values()) > len(DATA)

    run(main)


def test_a_slow_disk_slows_the_fetch_and_not_more_is_held() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        data = contents(40)
        file = manifest_file(data)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(data)
            kept = ben.expect(file)
            kept.write_time = 30.0
            await ben.fetch(file, anna.peer)
            assert kept.writing_most == UNDER_WAY_MAX
            assert kept.data == data

    run(main)


def test_several_fetches_hold_no_more_together_than_one_alone() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        datas = [contents(20, seed=seed) for seed in range(3)]
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(*datas)
            kept = [ben.expect(manifest_file(data)) for data in datas]
            async with trio.open_nursery() as nursery:
                for each, data in zip(kept, datas, strict=True):
                    each.write_time = 30.0
                    nursery.start_soon(ben.fetch, manifest_file(data), anna.peer)
            assert [bytes(each.data) for each in kept] == datas
            assert [each.writing_most for each in kept] == [UNDER_WAY_MAX // 3] * 3
            # And one that goes on alone has all the room.
            long = contents(40, seed=3)
            anna.files.add(long)
            alone = ben.expect(manifest_file(long))
            alone.write_time = 30.0
            await ben.fetch(manifest_file(long), anna.peer)
            assert alone.writing_most == UNDER_WAY_MAX

    run(main)


def test_those_that_give_nothing_do_not_keep_out_who_has_what_is_missing() -> None:
    """They follow the file as well, or say so: who has it is one peer too many."""

    async def main() -> None:
        hub = MemoryHub(seed=1)
        useless = HaveMap(FILE.chunk_count).to_bytes()

        async def give_nothing(stream: PeerStream) -> None:
            frames = FrameStream(stream, FRAME_SIZE_MAX)
            while await frames.receive() is not None:
                offer = Have(FILE.key, FILE.size_bytes, useless, "", is_growing=True)
                await frames.send(encode(offer))

        async with AsyncExitStack() as stack:
            anna = await stack.enter_async_context(blob_node(hub, ANNA))
            ben = await stack.enter_async_context(blob_node(hub, BEN, anna))
            anna.files.add(DATA)
            others = [identity(f"other {number}") for number in range(SEEDERS_MAX)]
            for who in others:
                network = await stack.enter_async_context(scripted_seeder(hub, who, give_nothing))
                await ben.network.dial(network.listen_addresses[0])
            send, seeders = trio.open_memory_channel[frozenset[str]](2)
            send.send_nowait(frozenset(who.peer_id for who in others))

            async def anna_comes() -> None:
                await trio.sleep(5)
                send.send_nowait(frozenset({anna.peer, *(who.peer_id for who in others)}))

            kept = ben.expect(FILE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anna_comes)
                with trio.fail_after(PLACE_TIME + 10):
                    await ben.fetcher.fetch_file(
                        FetchedFile.of_manifest(FILE),
                        kept,
                        seeders,  # type: ignore[arg-type]
                    )
            assert kept.data == DATA

    run(main)


def test_two_fetches_share_one_stream_and_the_end_of_one_is_not_the_end_of_the_other() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        short, long = contents(1, seed=2), contents(9, seed=3)
        async with blob_node(hub, ANNA, rate=10e6) as anna, blob_node(hub, BEN, anna) as ben:
            manifest = anna.files.add(short, long)
            streams: list[int] = []

            async def fetch_short() -> None:
                await ben.fetch(manifest_file(short), anna.peer)
                await trio.sleep(0.1)
                streams.append(ben.streams)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch_short)
                nursery.start_soon(ben.fetch, manifest_file(long), anna.peer)
                assert await ben.fetcher.fetch_manifest(manifest.id, [anna.peer]) == manifest
                streams.append(ben.streams)
            assert streams == [1, 1]
            assert ben.files.files[manifest_file(long).key].data == long

    run(main)


def test_a_fetch_gives_way_while_this_node_infers() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            ben.is_busy = True
            start = trio.current_time()
            await ben.fetch(FILE, anna.peer)
            slow = trio.current_time() - start
            # What a window holds comes at once.
            assert len(DATA) / BUSY_RATE * 0.9 <= slow <= len(DATA) / BUSY_RATE * 1.2
            ben.is_busy = False
            del ben.files.files[FILE.key]
            start = trio.current_time()
            await ben.fetch(FILE, anna.peer)
            assert trio.current_time() - start < slow / 3

    run(main)


def test_a_growing_file_is_followed_chunk_by_chunk_by_the_word_of_its_origin() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        key = source_key("a" * 64)
        async with (
            blob_node(hub, ANNA) as anna,
            blob_node(hub, BEN, anna) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            origin = anna.files.files[key] = KeptFile(len(DATA))
            origin.keep(0, DATA[:CHUNK_SIZE])

            async def download() -> None:
                for chunk in range(1, FILE.chunk_count):
                    await trio.sleep(1)
                    for follower in (ben, cleo):
                        assert follower.files.files[key].have.count == chunk, "it follows at once"
                    origin.keep(chunk, DATA[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE])
                await trio.sleep(1)
                origin.sha256 = FILE.sha256
                origin.changed.rise()

            async def follow(node: BlobNode, *peers: BlobNode) -> None:
                have = await node.fetcher.describe(key, anna.peer)
                assert have == Have(key, len(DATA), b"\x80", "", is_growing=True)
                file = FetchedFile.of_origin(key, have.size_bytes, anna.peer)
                kept = node.files.files[key] = KeptFile(len(DATA))
                await node.fetcher.fetch_file(file, kept, always([anna.peer, *(peer.peer for peer in peers)]))
                assert kept.data == DATA
                assert file.sha256 == FILE.sha256
                assert file.hashes == FILE.hashes

            async with trio.open_nursery() as nursery:
                nursery.start_soon(download)
                nursery.start_soon(follow, ben, cleo)
                nursery.start_soon(follow, cleo, ben)

    run(main)


def test_an_origin_is_asked_at_once_however_many_follow_it() -> None:
    """Without its hashes those who have a place have nothing to give."""

    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with AsyncExitStack() as stack:
            anna = await stack.enter_async_context(blob_node(hub, ANNA))
            others = [
                await stack.enter_async_context(blob_node(hub, identity(f"other {number}")))
                for number in range(2 * SEEDERS_MAX)
            ]
            ben = await stack.enter_async_context(blob_node(hub, BEN, anna, *others))
            anna.files.add(DATA)
            for other in others:
                other.expect(FILE)
            file = FetchedFile.of_origin(FILE.key, len(DATA), anna.peer, FILE.sha256)
            kept = ben.expect(FILE)

            async def anna_comes_last() -> AsyncIterator[Collection[PeerId]]:
                peers = frozenset(other.peer for other in others)
                yield peers
                await trio.sleep(1)
                yield peers | {anna.peer}

            with trio.fail_after(PLACE_TIME - 1):
                await ben.fetcher.fetch_file(file, kept, anna_comes_last())
            assert kept.data == DATA

    run(main)


def test_where_an_origin_lies_about_hashes_no_seeder_gets_a_bad_name() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            blob_node(hub, ANNA) as anna,
            blob_node(hub, BEN) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            anna.files.add(DATA)
            anna.files.files[FILE.key].hashes[:32] = b"x" * 32
            ben.files.add(DATA)
            file = FetchedFile.of_origin(FILE.key, len(DATA), anna.peer, FILE.sha256)
            with trio.move_on_after(60):
                await cleo.fetcher.fetch_file(file, KeptFile(len(DATA)), always([anna.peer, ben.peer]))
            assert cleo.reputation.to_map() == {}

    run(main)


def test_a_manifest_comes_from_whoever_has_it() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with (
            blob_node(hub, ANNA) as anna,
            blob_node(hub, BEN) as ben,
            blob_node(hub, CLEO, anna, ben) as cleo,
        ):
            manifest = anna.files.add(DATA, contents(2, seed=4))
            assert await cleo.fetcher.fetch_manifest(manifest.id, [ben.peer, anna.peer]) == manifest
            other = ben.files.add(contents(1, seed=5))
            # Ben's lie is another manifest, and then none at all.
            ben.files.manifests = {manifest.id: other.encode()}
            assert await cleo.fetcher.fetch_manifest(manifest.id, [ben.peer, anna.peer]) == manifest
            ben.files.manifests = {manifest.id: b"?" * 200_000}
            with pytest.raises(NobodyHasIt):
                await cleo.fetcher.fetch_manifest(manifest.id, [ben.peer])
            with pytest.raises(NobodyHasIt):
                await cleo.fetcher.fetch_manifest(ManifestId("0" * 64), [ben.peer, anna.peer, DORA.peer_id])
            with pytest.raises(NobodyHasIt):
                await cleo.fetcher.describe(FILE.key, ben.peer)

    run(main)


def test_many_manifests_are_wanted_of_one_peer_at_once() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA, rate=1e6) as anna, blob_node(hub, BEN, anna) as ben:
            manifests = [anna.files.add(contents(1, seed=seed)) for seed in range(9)]
            got = []

            async def fetch(number: int) -> None:
                got.append(await ben.fetcher.fetch_manifest(manifests[number].id, [anna.peer]))

            async with trio.open_nursery() as nursery:
                for number in [*range(9), *range(9)]:
                    nursery.start_soon(fetch, number)
            assert sorted(each.id for each in got) == sorted(2 * [each.id for each in manifests])

    run(main)


def test_a_seeder_with_another_file_of_that_name_is_not_asked() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.files[FILE.key] = KeptFile(1000, contents(1))
            with trio.move_on_after(60):
                await ben.fetch(FILE, anna.peer)
            assert anna.seeder.uploaded.total() == 0

    run(main)


@pytest.mark.parametrize(
    "after", [0.0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.01, 0.1, 0.4, 1.0, 3.5]
)
def test_a_fetch_cancelled_at_any_time_leaves_no_stream_and_no_task(after: float) -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA, rate=10e6) as anna, blob_node(hub, BEN, anna) as ben:
            manifest = anna.files.add(DATA)
            ben.expect(FILE).write_time = 2.0

            async def fetch_all() -> None:
                await ben.fetcher.fetch_manifest(manifest.id, [anna.peer])
                with pytest.raises(NobodyHasIt):
                    await ben.fetcher.describe(source_key("b" * 64), anna.peer)
                await ben.fetch(FILE, anna.peer)

            with trio.move_on_after(after) as scope:
                await fetch_all()
            assert scope.cancelled_caught
            await trio.sleep(3)
            assert ben.fetcher._channels._shared == {}
            assert ben.fetcher._channels._nursery is not None
            assert not ben.fetcher._channels._nursery.child_tasks
            assert ben.streams == anna.streams == 0
            ben.files.files[FILE.key].write_time = 0.0
            await ben.fetch(FILE, anna.peer)
            assert ben.files.files[FILE.key].data == DATA

    run(main)


def test_a_fetch_that_has_ended_tells_of_nothing_that_comes_late() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA, rate=10e6) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            # Another fetch would keep the stream open.
            with ben.fetcher._channels.use(anna.peer) as channel:
                with trio.move_on_after(1.0):
                    await ben.fetch(FILE, anna.peer)
                reports = len(ben.reports)
                await trio.sleep(1)
                assert channel._cancelled, "nothing was under way, so this shows nothing"
                number, asked = channel._cancelled.popitem()
                channel._cancelled[number] = asked
                channel._on_message(Data(number, asked.arrived, bytes(1000)))
                assert len(ben.reports) == reports

    run(main)


def test_a_fetch_that_was_begun_before_the_fetcher_runs_waits_for_it() -> None:
    async def main() -> None:
        hub = MemoryHub(seed=1)
        async with blob_node(hub, ANNA) as anna, blob_node(hub, BEN, anna) as ben:
            anna.files.add(DATA)
            await ben.fetch(FILE, anna.peer)

    run(main)
