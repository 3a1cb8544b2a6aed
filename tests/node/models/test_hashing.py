from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio

from node.models import hashing
from node.models.errors import ModelFileChanged, ModelFileUnreadable
from node.models.hashing import FileHasher

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_CHUNK_SIZE", 10_000)


async def hash_with(cache: Path, file: Path) -> tuple[str, list[tuple[int, int]]]:
    """The hash, and what progress there was: none if it was remembered."""
    progress: list[tuple[int, int]] = []
    with trio.fail_after(10):
        sha256 = await FileHasher(cache).sha256(file, lambda done, total: progress.append((done, total)))
    return sha256, progress


@pytest.mark.usefixtures("small_chunks")
def test_a_hash_is_computed_once_with_progress(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes.json"
    sha256, progress = trio.run(hash_with, cache, file)
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert progress[0] == (10_000, 256_000)
    assert progress[-1] == (256_000, 256_000)
    assert trio.run(hash_with, cache, file) == (sha256, [])


def test_a_changed_file_is_hashed_again(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes.json"
    trio.run(hash_with, cache, file)
    status = file.stat()
    file.write_bytes(b"X" + CONTENT[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    sha256, progress = trio.run(hash_with, cache, file)
    assert sha256 == hashlib.sha256(b"X" + CONTENT[1:]).hexdigest()
    assert progress


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": []}', b"\xff\xfe"])
def test_a_damaged_cache_costs_only_time(tmp_path: Path, file: Path, damage: bytes) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_bytes(damage)
    sha256, progress = trio.run(hash_with, cache, file)
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert progress
    assert trio.run(hash_with, cache, file) == (sha256, [])


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, file: Path) -> None:
    sha256, _ = trio.run(hash_with, tmp_path / "no such folder" / "hashes.json", file)
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.usefixtures("small_chunks")
def test_a_file_written_to_meanwhile_has_no_hash(tmp_path: Path, file: Path) -> None:
    async def main() -> None:
        def append(done: int, total: int) -> None:
            with file.open("ab") as more:
                more.write(b"more")

        with trio.fail_after(10), pytest.raises(ModelFileChanged):
            await FileHasher(tmp_path / "hashes.json").sha256(file, append)

    trio.run(main)
    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.usefixtures("small_chunks")
def test_cancelling_ends_after_a_chunk_and_remembers_nothing(tmp_path: Path, file: Path) -> None:
    chunks = 0

    async def main() -> None:
        with trio.CancelScope() as scope:

            def cancel(done: int, total: int) -> None:
                nonlocal chunks
                chunks += 1
                scope.cancel()

            await FileHasher(tmp_path / "hashes.json").sha256(file, cancel)
        assert scope.cancelled_caught

    trio.run(main)
    assert chunks == 1
    assert not (tmp_path / "hashes.json").exists()


@pytest.mark.usefixtures("small_chunks")
def test_one_file_is_hashed_at_a_time(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(CONTENT)
    order: list[str] = []

    async def main() -> None:
        hasher = FileHasher(tmp_path / "hashes.json")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for path in (file, other):
                    nursery.start_soon(hasher.sha256, path, lambda *_, name=path.name: order.append(name))

    trio.run(main)
    assert len(order) == 52
    assert len(set(order[:26])) == len(set(order[26:])) == 1


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ModelFileUnreadable):
            await FileHasher(tmp_path / "hashes.json").sha256(tmp_path / "none")

    trio.run(main)
