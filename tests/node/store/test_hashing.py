from __future__ import annotations

import hashlib
import os
from itertools import groupby
from pathlib import Path

import pytest
import trio
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from node.models.errors import ModelFileChanged, ModelFileUnreadable
from node.store import hash_cache, hashing, resumable_sha256
from node.store.hash_cache import FileHashes
from node.store.hashing import FileHasher, OnProgress, ignore_progress
from node.store.resumable_sha256 import ResumableSha256
from tests.node.store.chunked_files import CHUNK

unhurried = settings(deadline=None)

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHANGED = b"X" + CONTENT[1:]
CHUNKS = 63


@pytest.fixture
def without_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Python whose OpenSSL has no names."""
    monkeypatch.setattr(resumable_sha256, "_openssl", lambda: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    return path


def hashes_of(cache: Path, file: Path, on_progress: OnProgress = ignore_progress) -> FileHashes:
    async def main() -> FileHashes:
        with trio.fail_after(10):
            return await FileHasher(cache).hash(file, on_progress)

    return trio.run(main)


def hash_until(cache: Path, file: Path, stop_bytes: int) -> None:
    """Begin, and be cancelled when so many bytes are done."""

    async def main() -> None:
        with trio.CancelScope() as scope:

            def stop(done_bytes: int) -> None:
                if done_bytes >= stop_bytes:
                    scope.cancel()

            await FileHasher(cache).hash(file, stop)
        assert scope.cancelled_caught

    trio.run(main)


def rewrite(file: Path, *, later_ns: int) -> None:
    """Other content of the same size, written `later_ns` after what was there."""
    status = file.stat()
    file.write_bytes(CHANGED)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + later_ns))


def test_one_pass_makes_both_hashes(tmp_path: Path, file: Path) -> None:
    progress: list[int] = []
    hashes = hashes_of(tmp_path / "hashes", file, progress.append)
    assert hashes.sha256 == SHA256
    chunks = [CONTENT[at : at + CHUNK] for at in range(0, len(CONTENT), CHUNK)]
    assert hashes.chunks == b"".join(blake3(chunk).digest() for chunk in chunks)
    assert progress == [min(CHUNK * count, len(CONTENT)) for count in range(1, CHUNKS + 1)]


def test_a_hash_is_computed_once(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes"
    first = hashes_of(cache, file)
    # Nothing tells that this happened, so only a hash that is computed again would notice.
    rewrite(file, later_ns=0)
    assert hashes_of(cache, file) == first


def test_a_file_whose_name_is_no_unicode_is_remembered_too(tmp_path: Path) -> None:
    file = tmp_path / "caf\udce9.gguf"
    file.write_bytes(CONTENT)
    assert hashes_of(tmp_path / "hashes", file) == hashes_of(tmp_path / "hashes", file)
    assert [hashes.path for hashes in FileHasher(tmp_path / "hashes").cache] == [file]


def test_a_changed_file_is_hashed_again(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes"
    hashes_of(cache, file)
    rewrite(file, later_ns=1)
    assert hashes_of(cache, file).sha256 == hashlib.sha256(CHANGED).hexdigest()


def test_what_was_begun_is_gone_on_with_after_a_restart(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes"
    hash_until(cache, file, 10 * CHUNK)
    progress: list[int] = []
    hashes = hashes_of(cache, file, progress.append)
    assert progress[0] == 11 * CHUNK
    assert hashes.sha256 == SHA256
    assert hashes == hashes_of(tmp_path / "other", file)


@pytest.mark.usefixtures("without_openssl")
def test_where_a_sha256_cannot_be_put_aside_all_is_read_again(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes"
    hash_until(cache, file, 10 * CHUNK)
    progress: list[int] = []
    assert hashes_of(cache, file, progress.append).sha256 == SHA256
    assert progress[0] == CHUNK


def test_what_was_begun_of_a_file_that_changed_is_forgotten(tmp_path: Path, file: Path) -> None:
    cache = tmp_path / "hashes"
    hash_until(cache, file, 10 * CHUNK)
    rewrite(file, later_ns=1)
    progress: list[int] = []
    assert hashes_of(cache, file, progress.append).sha256 == hashlib.sha256(CHANGED).hexdigest()
    assert progress[0] == CHUNK


def test_a_crash_costs_what_came_after_the_last_checkpoint(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_CHECKPOINT_CHUNKS", 4)
    cache = tmp_path / "hashes"

    def crash(done_bytes: int) -> None:
        if done_bytes == 11 * CHUNK:
            raise KeyError("as sudden as a crash")

    with pytest.raises(KeyError):
        hashes_of(cache, file, crash)
    progress: list[int] = []
    assert hashes_of(cache, file, progress.append).sha256 == SHA256
    assert progress[0] == 9 * CHUNK


@pytest.mark.parametrize("cut", [0, 1, 31, 40, -1])
def test_a_damaged_cache_costs_only_time(tmp_path: Path, file: Path, cut: int) -> None:
    cache = tmp_path / "hashes"
    hashes_of(cache, file)
    [record] = cache.iterdir()
    record.write_bytes(record.read_bytes()[:cut])
    rewrite(file, later_ns=0)
    assert hashes_of(cache, file).sha256 == hashlib.sha256(CHANGED).hexdigest()


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, file: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be made")
    assert hashes_of(tmp_path / "taken" / "hashes", file).sha256 == SHA256


def test_the_oldest_records_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_cache, "_RECORDS_MAX", 2)
    cache = tmp_path / "hashes"
    for number in range(4):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(CONTENT)
        hashes_of(cache, path)
        for record in cache.iterdir():
            os.utime(record, ns=(0, record.stat().st_mtime_ns - 10**9))
    assert {hashes.path.name for hashes in FileHasher(cache).cache} == {"2.gguf", "3.gguf"}


def test_a_file_written_to_meanwhile_has_no_hash(tmp_path: Path, file: Path) -> None:
    def append(_: int) -> None:
        with file.open("ab") as more:
            more.write(bytes(10_000))

    with pytest.raises(ModelFileChanged):
        hashes_of(tmp_path / "hashes", file, append)
    assert not (tmp_path / "hashes").exists()


def test_a_file_cut_off_meanwhile_has_no_hash(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ModelFileChanged):
        hashes_of(tmp_path / "hashes", file, lambda _: os.truncate(file, 2 * CHUNK))


def test_cancelling_ends_after_a_chunk(tmp_path: Path, file: Path) -> None:
    progress: list[int] = []

    async def main() -> None:
        with trio.CancelScope() as scope:

            def cancel(done_bytes: int) -> None:
                progress.append(done_bytes)
                scope.cancel()

            await FileHasher(tmp_path / "hashes").hash(file, cancel)
        assert scope.cancelled_caught

    trio.run(main)
    assert progress == [CHUNK]


def test_one_file_is_hashed_at_a_time(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(CONTENT)
    order: list[str] = []

    def note(name: str) -> OnProgress:
        return lambda _: order.append(name)

    async def main() -> None:
        hasher = FileHasher(tmp_path / "hashes")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hasher.hash, file, note("one"))
                nursery.start_soon(hasher.hash, other, note("other"))

    trio.run(main)
    assert [len(list(chunks)) for _, chunks in groupby(order)] == [CHUNKS, CHUNKS]


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelFileUnreadable):
        hashes_of(tmp_path / "hashes", tmp_path / "none")


def test_this_python_can_put_a_sha256_aside() -> None:
    """Elsewhere it may not be; here, if it were not, no other test would notice."""
    assert ResumableSha256().state() is not None


@unhurried
@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 20), st.binary(max_size=300))
def test_a_sha256_put_aside_goes_on_as_if_nothing_had_been(
    pieces: list[bytes], blocks: int, rest: bytes
) -> None:
    whole = b"".join(pieces)
    digest = ResumableSha256()
    for piece in pieces:
        digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(whole).hexdigest()
    first = whole.ljust(64 * blocks, b"x")[: 64 * blocks]
    digest = ResumableSha256()
    digest.update(first)
    state = digest.state()
    assert state is not None
    resumed = ResumableSha256.resume(state, len(first))
    assert resumed is not None
    resumed.update(rest)
    assert resumed.hexdigest() == hashlib.sha256(first + rest).hexdigest()


@unhurried
@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**54), st.binary(max_size=200))
def test_any_state_from_a_disk_is_harmless(state: bytes, blocks: int, rest: bytes) -> None:
    digest = ResumableSha256.resume(state, 64 * blocks)
    assert digest is not None
    digest.update(rest)
    assert len(digest.hexdigest()) == 64


@pytest.mark.parametrize(
    ("state", "size_bytes"), [(b"", 0), (bytes(31), 64), (bytes(32), 65), (bytes(32), 2**61)]
)
def test_what_is_no_state_is_refused(state: bytes, size_bytes: int) -> None:
    assert ResumableSha256.resume(state, size_bytes) is None


@pytest.mark.usefixtures("without_openssl")
def test_without_openssl_the_sha256_is_the_same() -> None:
    digest = ResumableSha256()
    digest.update(CONTENT)
    assert digest.hexdigest() == SHA256
    assert digest.state() is None
