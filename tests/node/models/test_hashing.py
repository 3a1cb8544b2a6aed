from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest
import trio

from node.models import hashing
from node.models.errors import ModelFileChanged, ModelFileUnreadable
from node.models.hashing import FileHasher

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHANGED = b"X" + CONTENT[1:]

AtEachChunk = Callable[[Callable[[object], None]], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def at_each_chunk(monkeypatch: pytest.MonkeyPatch) -> AtEachChunk:
    """Makes chunks small, and lets something happen, in the hashing thread, before each counts."""
    new_digest = hashlib.sha256

    def arrange(action: Callable[[object], None]) -> None:
        class Digest:
            def __init__(self) -> None:
                self._digest = new_digest()
                self.hexdigest = self._digest.hexdigest

            def update(self, chunk: bytes) -> None:
                action(self)
                self._digest.update(chunk)

        monkeypatch.setattr(hashing, "_CHUNK_SIZE", 10_000)
        monkeypatch.setattr(hashlib, "sha256", Digest)

    return arrange


def hash_with(cache: Path, file: Path) -> str:
    async def main() -> str:
        with trio.fail_after(10):
            return await FileHasher(cache).sha256(file)

    return trio.run(main)


def rewrite(file: Path, *, later_ns: int) -> None:
    """Other content of the same size, written `later_ns` after what was there."""
    status = file.stat()
    file.write_bytes(CHANGED)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + later_ns))


def test_a_hash_is_computed_once(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes.json"
    assert hash_with(cache, file) == SHA256
    # Nothing tells that this happened, so only a hash that is computed again would notice.
    rewrite(file, later_ns=0)
    assert hash_with(cache, file) == SHA256


def test_a_changed_file_is_hashed_again(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes.json"
    hash_with(cache, file)
    rewrite(file, later_ns=1)
    assert hash_with(cache, file) == hashlib.sha256(CHANGED).hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": []}', b"\xff\xfe"])
def test_a_damaged_cache_costs_only_time(tmp_path: Path, file: Path, damage: bytes) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_bytes(damage)
    assert hash_with(cache, file) == SHA256
    rewrite(file, later_ns=0)
    assert hash_with(cache, file) == SHA256


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, file: Path) -> None:
    assert hash_with(tmp_path / "no such folder" / "hashes.json", file) == SHA256


def test_a_file_written_to_meanwhile_has_no_hash(
    tmp_path: Path, file: Path, at_each_chunk: AtEachChunk
) -> None:
    def append(_: object) -> None:
        with file.open("ab") as more:
            more.write(bytes(10_000))

    at_each_chunk(append)
    with pytest.raises(ModelFileChanged):
        hash_with(tmp_path / "hashes.json", file)
    assert not (tmp_path / "hashes.json").exists()


def test_cancelling_ends_after_a_chunk_and_remembers_nothing(
    tmp_path: Path, file: Path, at_each_chunk: AtEachChunk
) -> None:
    chunks = 0

    async def main() -> None:
        with trio.CancelScope() as scope:

            def cancel(_: object) -> None:
                nonlocal chunks
                chunks += 1
                trio.from_thread.run_sync(scope.cancel)

            at_each_chunk(cancel)
            await FileHasher(tmp_path / "hashes.json").sha256(file)
        assert scope.cancelled_caught

    trio.run(main)
    assert chunks == 1
    assert not (tmp_path / "hashes.json").exists()


def test_one_file_is_hashed_at_a_time(tmp_path: Path, file: Path, at_each_chunk: AtEachChunk) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(CONTENT)
    order: list[object] = []

    def note(digest: object) -> None:
        order.append(digest)
        trio.from_thread.run(trio.lowlevel.checkpoint)  # so that another could come in between

    at_each_chunk(note)

    async def main() -> None:
        hasher = FileHasher(tmp_path / "hashes.json")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hasher.sha256, file)
                nursery.start_soon(hasher.sha256, other)

    trio.run(main)
    assert [len(list(chunks)) for _, chunks in groupby(order)] == [26, 26]


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelFileUnreadable):
        hash_with(tmp_path / "hashes.json", tmp_path / "none")
