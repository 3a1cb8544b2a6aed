"""A manifest is what its files are; one that promises more than it says, or names no file, is none."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from blake3 import blake3

from p2p.blobs.errors import BadManifest
from p2p.blobs.manifest import (
    CHUNK_SIZE,
    CHUNKS_MAX,
    ENCODED_SIZE_MAX,
    FILES_MAX,
    Manifest,
    ManifestFile,
    decode_manifest_untrusted,
    hash_chunk,
    manifest_of,
    parse_file_key,
    parse_manifest_id,
    source_key,
)

YAML = ManifestFile("model.yaml", 12, "cd" * 32, bytes(range(32)))
MODEL = ManifestFile("model.gguf", 2 * CHUNK_SIZE + 1, "ab" * 32, bytes(range(96)))
MANIFEST = manifest_of([YAML, MODEL])


def row(name: str = "model.gguf", size: float = 1, **other: object) -> list[Any]:
    """A file as it is encoded; by default one that could be."""
    said = {"name": name, "size": size, "sha256": bytes(32), "hashes": bytes(32), **other}
    return list(said.values())


def encoded(*files: object, **other: object) -> bytes:
    data: bytes = msgpack.packb({"manifest": 1, "files": files, **other})
    return data


def test_files_are_cut_in_chunks() -> None:
    assert MODEL.chunk_count == 3
    assert [MODEL.chunk_size(chunk) for chunk in range(3)] == [CHUNK_SIZE, CHUNK_SIZE, 1]
    assert MODEL.chunk_hash(1) == bytes(range(32, 64))
    assert ManifestFile("m", CHUNK_SIZE, "ab" * 32, bytes(32)).chunk_size(0) == CHUNK_SIZE
    assert MANIFEST.size_bytes == MODEL.size_bytes + 12
    assert MANIFEST.chunk_count == 4


def test_equal_files_make_equal_manifests_whatever_their_order() -> None:
    assert manifest_of([MODEL, YAML]) == MANIFEST
    assert manifest_of([MODEL, YAML]).id == MANIFEST.id
    assert manifest_of([MODEL]).id != MANIFEST.id


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode_manifest_untrusted(MANIFEST.encode()) == MANIFEST


def test_its_id_is_the_hash_of_its_encoding() -> None:
    assert MANIFEST.id == blake3(MANIFEST.encode()).hexdigest()
    assert hash_chunk(b"") == blake3(b"").digest()


def test_the_example_of_a_row_is_one() -> None:
    """What the refused ones below differ from."""
    assert decode_manifest_untrusted(encoded(row())).files[0].name == "model.gguf"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(*[row(f"{n:07}") for n in range(FILES_MAX + 1)]), id="too many files"),
        pytest.param(b"\x82\xa8manifest\x01\xa5files\xdd\x00\x0f\x42\x40", id="a million files announced"),
        pytest.param(encoded(row(size=2**50, hashes=b"")), id="a petabyte without hashes"),
        pytest.param(encoded(row(size=2**50)), id="a petabyte with one"),
        pytest.param(encoded(row(size=CHUNKS_MAX * CHUNK_SIZE)), id="the largest size with one hash"),
        pytest.param(encoded(row(size=CHUNK_SIZE + 1)), id="a hash too few"),
        pytest.param(encoded(row(hashes=bytes(64))), id="a hash too many"),
        pytest.param(encoded(row(hashes=bytes(31))), id="a short hash"),
        pytest.param(encoded(row(size=0, hashes=b"")), id="an empty file"),
        pytest.param(encoded(row(size=-1)), id="less than nothing"),
        pytest.param(encoded(row(size=1.5)), id="half a byte"),
        pytest.param(encoded(row(sha256=bytes(20))), id="a short sha256"),
        pytest.param(encoded(row("../model.gguf")), id="path traversal"),
        pytest.param(encoded(row("/etc/cron.d/model")), id="an absolute path"),
        pytest.param(encoded(row("C:\\model.gguf")), id="a drive"),
        pytest.param(encoded(row("NUL.gguf")), id="a device"),
        pytest.param(encoded(row(".bashrc")), id="a hidden file"),
        pytest.param(encoded(row("a"), row("a")), id="a name twice"),
        pytest.param(encoded(row("A.gguf"), row("a.gguf")), id="one name in two cases"),
        pytest.param(encoded(row("b"), row("a")), id="another order"),
        pytest.param(encoded(), id="no files"),
        pytest.param(encoded([*row(), {"symlink": "/etc/passwd"}]), id="a file with more to say"),
        pytest.param(encoded(row(), symlinks=[["a", "/etc"]]), id="a manifest with more to say"),
        pytest.param(msgpack.packb({"manifest": 2, "files": [row()]}), id="another version"),
        pytest.param(msgpack.packb({"files": [row()], "manifest": 1}), id="said in another order"),
        pytest.param(encoded(row()) + b"\0", id="something behind it"),
        pytest.param(encoded(row())[:-1], id="cut"),
        pytest.param(b"\x91" * 4096, id="nested without end"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc0", id="nil"),
        pytest.param(bytes(ENCODED_SIZE_MAX + 1), id="more bytes than any"),
    ],
)
def test_a_bomb_is_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(BadManifest):
        decode_manifest_untrusted(data)


@pytest.mark.parametrize("what", [b"\x80", b"\x90", b"\x91\x80", b"\x94\xa1a\x01\xc4\x00\xc4\x00"])
def test_a_bomb_takes_no_more_room_than_its_own_bytes(what: bytes) -> None:
    """Empty maps take seventy times theirs once they are unpacked."""
    count = ENCODED_SIZE_MAX // len(what) - 20
    bomb = b"\x82\xa8manifest\x01\xa5files\xdd" + count.to_bytes(4, "big") + what * count
    tracemalloc.start()
    try:
        with pytest.raises(BadManifest):
            decode_manifest_untrusted(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(bomb)


def test_the_largest_manifest_fits_its_bounds() -> None:
    """A model of 2 TiB in as many files as there may be."""
    each = CHUNKS_MAX // FILES_MAX
    files = [
        ManifestFile(f"{n:05}" + "x" * 195, each * CHUNK_SIZE, f"{n:064x}", bytes(32 * each))
        for n in range(FILES_MAX)
    ]
    manifest = manifest_of(files)
    assert len(manifest.encode()) <= ENCODED_SIZE_MAX
    assert decode_manifest_untrusted(manifest.encode()).size_bytes == 2**41


def test_more_than_the_largest_is_no_manifest_of_ours_either() -> None:
    half = CHUNKS_MAX // 2 + 16 * 1024
    files = [ManifestFile(name, half * CHUNK_SIZE, "ab" * 32, bytes(32 * half)) for name in ("a", "b")]
    with pytest.raises(BadManifest):
        manifest_of(files)


def test_files_out_of_order_are_no_manifest() -> None:
    with pytest.raises(BadManifest):
        Manifest((YAML, MODEL))


def test_keys_and_ids_are_what_peers_may_say() -> None:
    assert parse_file_key(MODEL.key) == MODEL.key
    assert parse_file_key(source_key("ab" * 32)) == "source:" + "ab" * 32
    assert parse_manifest_id(MANIFEST.id) == MANIFEST.id


@pytest.mark.parametrize("text", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "\n", "source:", "file:" + "ab" * 32])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        parse_file_key(text)
    with pytest.raises(ValueError, match="no id"):
        parse_manifest_id(text)
