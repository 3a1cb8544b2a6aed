from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from node.store import partial_disk
from node.store.errors import PartialInUse
from node.store.partial import PartialFile, open_partial
from node.store.partial_files import drop
from p2p.blobs.errors import ChunkUnavailable, SinkFailed
from p2p.blobs.have_map import HaveMap
from p2p.blobs.sink import ChunkSink
from tests.node.store.chunked_files import CHUNK, SomeFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "big.gguf"


async def write(partial: ChunkSink, file: SomeFile, *chunks: int) -> None:
    for chunk in chunks or range(file.count):
        await partial.write(chunk, [file.chunk(chunk)])


def have(*chunks: int) -> HaveMap:
    have = HaveMap(10)
    for chunk in chunks:
        have.add(chunk)
    return have


def test_what_came_is_offered_at_once(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.unhashed) as partial:
            offer = partial.offer
            assert (offer.size_bytes, offer.have, offer.is_growing) == (len(some_file.content), have(), True)
            assert offer.hashes == bytes(320)
            number = offer.changed.number
            await write(partial, some_file, 3)
            assert await offer.changed.after(number) > number
            assert offer.have == have(3)
            assert offer.hashes[96:128] == some_file.hashes[96:128]
            assert await partial.read(3) == some_file.chunk(3)

    trio.run(main)


def test_many_chunks_may_be_written_at_once(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            async with trio.open_nursery() as nursery:
                for chunk in range(10):
                    nursery.start_soon(partial.write, chunk, [some_file.chunk(chunk)])
            assert partial.have.is_full
            hashes = await partial.finish()
            assert partial.offer.is_growing is False
            assert await partial.read(9) == some_file.chunk(9), "from where it is now"
        assert hashes.sha256 == some_file.sha256
        assert path.read_bytes() == some_file.content

    trio.run(main)


def test_a_sha256_that_was_learned_later_is_compared(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.unhashed) as partial:
            await write(partial, some_file)
            partial.sha256 = "ab" * 32
            with pytest.raises(Exception, match="should have the sha256 abab"):
                await partial.finish()
        assert list(path.parent.iterdir()) == []

    trio.run(main)


def test_cancelling_keeps_what_came(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with open_partial(path, some_file.wanted) as partial:
                await write(partial, some_file, 1, 2)
                scope.cancel()
                await write(partial, some_file, 3)
        assert scope.cancelled_caught
        async with open_partial(path, some_file.wanted) as partial:
            assert partial.have == have(1, 2)

    trio.run(main)


def test_reading_what_a_crash_left_can_be_cancelled(path: Path, some_file: SomeFile) -> None:
    progress: list[int] = []

    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file)
            partial._disk._let_go(for_good=False)
        with trio.CancelScope() as scope:

            def cancel(done_bytes: int) -> None:
                progress.append(done_bytes)
                scope.cancel()

            async with open_partial(path, some_file.wanted, cancel):
                raise AssertionError("it was cancelled")
        assert scope.cancelled_caught
        async with open_partial(path, some_file.wanted) as partial:
            assert partial.have.is_full

    trio.run(main)
    assert progress == [CHUNK]


def test_a_finish_that_was_cancelled_can_be_repeated(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file, *reversed(range(10)))
            with trio.CancelScope() as scope:
                await partial.finish(lambda _: scope.cancel())
            assert scope.cancelled_caught
            assert not path.exists()
            assert (await partial.finish()).sha256 == some_file.sha256

    trio.run(main)


def test_what_the_disk_did_not_keep_is_not_offered(
    path: Path, some_file: SomeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_disk, "_SYNC_CHUNKS", 2)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file, 0, 1, 2)
            monkeypatch.setattr(os, "fsync", fail)
            with pytest.raises(SinkFailed):
                await write(partial, some_file, 3)
            assert partial.have == have(0, 1)

    trio.run(main)


def test_a_chunk_that_rots_is_not_offered_any_more(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file, 0, 1)
            path.with_name(".big.gguf.partial").write_bytes(bytes(len(some_file.content)))
            number = partial.changed.number
            with pytest.raises(ChunkUnavailable):
                await partial.read(1)
            assert partial.have == have(0)
            assert partial.changed.number > number

    trio.run(main)


def test_who_reads_while_it_gets_another_name_waits_for_that(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        read: list[bytes] = []

        async def read_one(partial: PartialFile) -> None:
            read.append(await partial.read(2))

        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file)
            await partial.finish()
            whole = partial.whole
            assert whole is not None
            moved = path.with_name("elsewhere.gguf")
            async with trio.open_nursery() as nursery:
                with partial.moving():
                    path.rename(moved)
                    nursery.start_soon(read_one, partial)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    partial.whole = replace(whole, path=moved)
            assert read == [some_file.chunk(2)]
            moved.unlink()
            with pytest.raises(ChunkUnavailable):
                await partial.read(2)

    trio.run(main)


def test_what_came_of_a_file_that_nobody_wants_any_more_is_dropped(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file, 0)
            with pytest.raises(PartialInUse):
                drop(path)
        for _ in range(2):
            drop(path)
        assert list(path.parent.iterdir()) == []
        drop(path.parent / "no such folder" / "any.gguf")

    trio.run(main)


def test_what_is_discarded_is_gone(path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, some_file.wanted) as partial:
            await write(partial, some_file, 0)
            await partial.discard()
        assert list(path.parent.iterdir()) == []

    trio.run(main)
