from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from ledger.records import ModelName
from node.models.definition import ModelDefinition
from node.models.errors import ModelFileUnreadable
from node.models.model_yaml import ModelSettings
from node.store.partial import open_partial
from node.store.store import Store
from p2p.blobs.errors import ChunkUnavailable, SinkFailed
from p2p.blobs.manifest import ManifestId, decode_manifest_untrusted, file_key, manifest_of, source_key
from p2p.blobs.source import ChunkSource
from tests.node.store.chunked_files import CHUNK, SomeFile

Test = Callable[[Store], Awaitable[None]]


def run(tmp_path: Path, test: Test) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            await test(Store(hashes=tmp_path / "hashes", manifests=tmp_path / "manifests"))

    trio.run(main)


@pytest.fixture
def path(tmp_path: Path, some_file: SomeFile) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(some_file.content)
    return path


def model(path: Path, settings: ModelSettings | None = None) -> ModelDefinition:
    return ModelDefinition(ModelName(path.stem), path, settings or ModelSettings())


def change(path: Path, content: bytes, *, later_ns: int = 10**9) -> None:
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before, before + later_ns))


def test_a_model_is_given_as_its_manifest_says(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    async def test(store: Store) -> None:
        identity = await store.identify(model(path, ModelSettings(context_size=512)))
        encoded = await store.manifest(identity.manifest.id)
        assert encoded is not None
        manifest = decode_manifest_untrusted(encoded)
        assert [file.name for file in manifest.files] == ["model.gguf", "model.yaml"]
        weights, settings = manifest.files
        assert (weights.sha256, weights.hashes) == (some_file.sha256, some_file.hashes)
        assert identity.sha256 == some_file.sha256
        source: ChunkSource = store
        offer = source.offer(weights.key)
        assert offer is not None
        assert (offer.have.is_full, offer.is_growing, offer.sha256) == (True, False, some_file.sha256)
        given = [await store.read(weights.key, chunk) for chunk in range(weights.chunk_count)]
        assert b"".join(given) == some_file.content
        assert await store.read(settings.key, 0) == b"context_size: 512\n"
        assert await store.find(some_file.sha256) == path

    run(tmp_path, test)


def test_two_with_other_settings_share_the_weights(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    async def test(store: Store) -> None:
        one = await store.identify(model(path))
        other = await store.identify(model(path, ModelSettings(max_tokens=9)))
        assert one.manifest.id != other.manifest.id
        store.forget(one)
        assert await store.manifest(one.manifest.id) is None
        assert store.offer(file_key(some_file.sha256)) is not None
        store.forget(other)
        assert store.offer(file_key(some_file.sha256)) is None

    run(tmp_path, test)


def test_progress_counts_all_files_of_a_model(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"big-0000{number}-of-00002.gguf").write_bytes(bytes(2 * CHUNK))
    progress: list[int] = []

    async def test(store: Store) -> None:
        definition = model(tmp_path / "big-00001-of-00002.gguf")
        identity = await store.identify(definition, progress.append)
        assert [file.name for file in identity.manifest.files] == [
            *("model-00001-of-00002.gguf", "model-00002-of-00002.gguf"),
        ]

    run(tmp_path, test)
    assert sorted(set(progress)) == [CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK]
    assert progress == sorted(progress)


@pytest.mark.parametrize("later_ns", [10**9, 0])
def test_a_file_that_changed_is_never_given_out_as_what_it_was(
    tmp_path: Path, path: Path, some_file: SomeFile, later_ns: int
) -> None:
    """Not even where its time of change does not tell."""

    async def test(store: Store) -> None:
        identity = await store.identify(model(path))
        key = file_key(some_file.sha256)
        offer = store.offer(key)
        assert offer is not None
        number = offer.changed.number
        change(path, b"X" + some_file.content[1:], later_ns=later_ns)
        with pytest.raises(ChunkUnavailable):
            await store.read(key, 0)
        assert identity.outdated.is_set()
        assert offer.changed.number > number
        assert store.offer(key) is None
        assert await store.manifest(identity.manifest.id) is None
        again = await store.identify(model(path))
        assert again.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert again.manifest.id != identity.manifest.id

    run(tmp_path, test)


@pytest.mark.parametrize("chunk", [-1, 10, 2**40])
def test_who_asks_for_a_chunk_that_is_not_gets_nothing_and_does_no_harm(
    tmp_path: Path, path: Path, some_file: SomeFile, chunk: int
) -> None:
    async def test(store: Store) -> None:
        identity = await store.identify(model(path, ModelSettings(context_size=512)))
        for file in identity.manifest.files:
            with pytest.raises(ChunkUnavailable, match="has no chunk"):
                await store.read(file.key, chunk)
        async with open_partial(tmp_path / "other.gguf", SomeFile(10, seed=3).wanted) as partial:
            with pytest.raises(ChunkUnavailable):
                await partial.read(chunk)
        assert not identity.outdated.is_set()
        assert await store.read(file_key(some_file.sha256), 9) == some_file.chunk(9)

    run(tmp_path, test)


def test_another_copy_stands_in_for_one_that_changed(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(some_file.content)

    async def test(store: Store) -> None:
        first, second = await store.identify(model(path)), await store.identify(model(copy))
        path.unlink()
        assert await store.read(file_key(some_file.sha256), 3) == some_file.chunk(3)
        assert (first.outdated.is_set(), second.outdated.is_set()) == (True, False)
        assert await store.find(some_file.sha256) == copy

    run(tmp_path, test)


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        with pytest.raises(ModelFileUnreadable):
            await store.identify(model(tmp_path / "none.gguf"))

    run(tmp_path, test)


def test_what_cannot_be_written_to_is_served(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    for folder in ("hashes", "manifests"):
        (tmp_path / folder).write_text("no folder can be made here")

    async def test(store: Store) -> None:
        identity = await store.identify(model(path))
        assert await store.read(file_key(some_file.sha256), 0) == some_file.chunk(0)
        with pytest.raises(SinkFailed):
            await store.manifests.keep(identity.manifest)

    run(tmp_path, test)


def test_a_link_is_used_where_it_leads(tmp_path: Path, path: Path, some_file: SomeFile) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(path)

    async def test(store: Store) -> None:
        await store.identify(model(link))
        assert await store.read(file_key(some_file.sha256), 1) == some_file.chunk(1)
        link.unlink()
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ChunkUnavailable):
            await store.read(file_key(some_file.sha256), 1)

    run(tmp_path, test)


def test_a_file_that_comes_in_is_offered_all_the_way(tmp_path: Path, some_file: SomeFile) -> None:
    async def test(store: Store) -> None:
        key = source_key("cd" * 32)
        assert store.offer(key) is None
        async with open_partial(tmp_path / "tiny.gguf", some_file.unhashed) as partial:
            with store.growing(key, partial):
                await partial.write(2, [some_file.chunk(2)])
                offer = store.offer(key)
                assert offer is not None
                assert (2 in offer.have, offer.is_growing, offer.sha256) == (True, True, some_file.sha256)
                assert await store.read(key, 2) == some_file.chunk(2)
                for chunk in range(some_file.count):
                    await partial.write(chunk, [some_file.chunk(chunk)])
                store.hasher.cache.put(await partial.finish())
                assert await store.read(key, 2) == some_file.chunk(2)
                await store.identify(model(tmp_path / "tiny.gguf"))
        assert await store.read(key, 2) == some_file.chunk(2), "followers know it by its source still"
        offer = store.offer(key)
        assert offer is not None
        assert offer.is_growing is False
        with pytest.raises(ChunkUnavailable):
            await store.read(source_key("ef" * 32), 0)

    run(tmp_path, test)


async def arrive(store: Store, path: Path, some_file: SomeFile) -> None:
    """The file comes in whole, and nobody has identified its model yet."""
    async with open_partial(path, some_file.wanted) as partial:
        with store.growing(file_key(some_file.sha256), partial):
            for chunk in range(some_file.count):
                await partial.write(chunk, [some_file.chunk(chunk)])
            store.hasher.cache.put(await partial.finish())


def test_a_file_that_came_in_is_offered_until_its_model_is_identified_and_then(
    tmp_path: Path, some_file: SomeFile
) -> None:
    async def test(store: Store) -> None:
        key, path = file_key(some_file.sha256), tmp_path / "tiny.gguf"
        await arrive(store, path, some_file)
        before = store.offer(key)
        assert before is not None
        assert (before.have.is_full, before.is_growing) == (True, False)
        assert await store.read(key, 1) == some_file.chunk(1)
        seen = before.changed.number
        identity = await store.identify(model(path))
        assert before.changed.number > seen, "who follows it looks again"
        assert await store.read(key, 1) == some_file.chunk(1)
        store.forget(identity)
        assert store.offer(key) is None

    run(tmp_path, test)


def test_a_file_that_came_in_and_was_changed_before_is_not_offered_any_more(
    tmp_path: Path, some_file: SomeFile
) -> None:
    async def test(store: Store) -> None:
        key, path = file_key(some_file.sha256), tmp_path / "tiny.gguf"
        await arrive(store, path, some_file)
        change(path, b"something else")
        with pytest.raises(ChunkUnavailable):
            await store.read(key, 1)
        assert store.offer(key) is None

    run(tmp_path, test)


def test_a_finished_file_is_not_hashed_again(tmp_path: Path, some_file: SomeFile) -> None:
    progress: list[int] = []

    async def test(store: Store) -> None:
        async with open_partial(tmp_path / "tiny.gguf", some_file.wanted) as partial:
            for chunk in range(some_file.count):
                await partial.write(chunk, [some_file.chunk(chunk)])
            store.hasher.cache.put(await partial.finish())
        identity = await store.identify(model(tmp_path / "tiny.gguf"), progress.append)
        assert identity.sha256 == some_file.sha256
        assert progress == [len(some_file.content)]

    run(tmp_path, test)


def test_the_manifest_of_what_is_on_its_way_is_kept(tmp_path: Path, path: Path) -> None:
    async def test(store: Store) -> None:
        identity = await store.identify(model(path))
        store.forget(identity)
        await store.manifests.keep(identity.manifest)
        manifest_id = identity.manifest.id
        assert await store.manifest(manifest_id) == identity.manifest.encode()
        kept = tmp_path / "manifests" / manifest_id
        kept.write_bytes(kept.read_bytes()[:-1])
        assert await store.manifest(manifest_id) is None
        other = manifest_of([*identity.manifest.files][:1])
        kept.write_bytes(other.encode())
        assert await store.manifest(ManifestId("0" * 64)) is None
        await store.manifests.drop(manifest_id)
        await store.manifests.drop(manifest_id)
        assert list((tmp_path / "manifests").iterdir()) == []

    run(tmp_path, test)
