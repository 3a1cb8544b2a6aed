from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.hash_cache import FileHashes
from node.store.hashing import FileHasher
from node.store.partial import open_partial
from node.store.partial_disk import WantedFile
from node.store.reuse import reuse_chunks
from p2p.blobs.manifest import file_key, hash_chunk
from tests.node.store.chunked_files import CHUNK, SomeFile


async def hashed(folder: Path, *contents: bytes) -> list[FileHashes]:
    """The hashes of files with these contents."""
    hasher = FileHasher(folder / "hashes")
    for number, content in enumerate(contents):
        (folder / f"{number}.gguf").write_bytes(content)
        await hasher.hash(folder / f"{number}.gguf")
    return sorted(hasher.cache, key=lambda hashes: hashes.path)


def wanted(content: bytes) -> WantedFile:
    chunks = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    return WantedFile(file_key("ab" * 32), len(content), "", b"".join(map(hash_chunk, chunks)))


def test_of_a_new_version_only_what_changed_is_fetched(tmp_path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        newer = bytearray(some_file.content)
        newer[3 * CHUNK] ^= 1
        known = await hashed(tmp_path, some_file.content)
        async with open_partial(tmp_path / "newer.gguf", wanted(bytes(newer))) as partial:
            assert await reuse_chunks(partial, known) == len(newer) - CHUNK
            assert list(partial.have.missing()) == [3]
            assert await partial.read(4) == some_file.chunk(4)
            assert await reuse_chunks(partial, known) == 0

    trio.run(main)


def test_a_file_that_changed_since_gives_nothing_and_another_does(
    tmp_path: Path, some_file: SomeFile
) -> None:
    async def main() -> None:
        known = await hashed(tmp_path, some_file.content, some_file.content[: 2 * CHUNK])
        (tmp_path / "0.gguf").write_bytes(bytes(len(some_file.content)))
        os.utime(tmp_path / "0.gguf", ns=(1, 1))
        async with open_partial(tmp_path / "big.gguf", some_file.wanted) as partial:
            assert await reuse_chunks(partial, known) == 2 * CHUNK
            assert list(partial.have.missing()) == list(range(2, 10))

    trio.run(main)


def test_where_no_hashes_are_known_nothing_can_be_found(tmp_path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        known = await hashed(tmp_path, some_file.content)
        async with open_partial(tmp_path / "big.gguf", some_file.unhashed) as partial:
            assert await reuse_chunks(partial, known) == 0

    trio.run(main)


pieces = st.sampled_from([bytes([number]) * CHUNK for number in range(4)])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(pieces, min_size=1, max_size=5), max_size=3), st.lists(pieces, min_size=1, max_size=6)
)
def test_just_what_is_there_is_copied_to_where_it_belongs(
    others: list[list[bytes]], file: list[bytes]
) -> None:
    async def main(folder: Path) -> None:
        known = await hashed(folder, *map(b"".join, others))
        async with open_partial(folder / "big.gguf", wanted(b"".join(file))) as partial:
            await reuse_chunks(partial, known)
            there = {piece for other in others for piece in other}
            assert [chunk for chunk in range(len(file)) if chunk in partial.have] == [
                chunk for chunk, piece in enumerate(file) if piece in there
            ]
            for chunk in range(len(file)):
                if chunk in partial.have:
                    assert await partial.read(chunk) == file[chunk]

    with TemporaryDirectory() as folder:
        trio.run(main, Path(folder))
