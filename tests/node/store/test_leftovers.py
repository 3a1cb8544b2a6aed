"""What nobody went on with is deleted after a while, and nothing else."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from node.store.kept_manifests import KeptManifests
from node.store.leftovers import drop_leftovers
from node.store.partial import open_partial
from node.store.partial_files import beside
from p2p.blobs.manifest import ManifestFile, manifest_of
from tests.node.store.chunked_files import SomeFile

OLD, LONG_AGO, NOW = 1_000.0, 2_000.0, 3_000.0
"""Seconds since 1970: when it was written, the limit, and later than that."""


def age(folder: Path, seconds: float = OLD) -> None:
    for path in folder.iterdir():
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def came_in_part(path: Path, file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(path, file.wanted) as partial:
            await partial.write(0, [file.chunk(0)])

    trio.run(main)


def test_what_came_in_part_and_what_was_never_put_in_its_place_goes_in_time(
    tmp_path: Path, some_file: SomeFile, caplog: pytest.LogCaptureFixture
) -> None:
    came_in_part(tmp_path / "tiny.gguf", some_file)
    (tmp_path / "big.gguf").write_bytes(b"whole")
    (tmp_path / "big.yaml").write_bytes(b"name: big")
    age(tmp_path)
    with caplog.at_level(logging.INFO):
        drop_leftovers(tmp_path, LONG_AGO)
    assert names(tmp_path) == []
    assert f"{tmp_path / 'tiny.gguf'} size_bytes=" in caplog.text


def test_what_was_written_lately_stays(tmp_path: Path, some_file: SomeFile) -> None:
    came_in_part(tmp_path / "tiny.gguf", some_file)
    age(tmp_path)
    os.utime(beside(tmp_path / "tiny.gguf", ".map"), (NOW, NOW))
    before = names(tmp_path)
    drop_leftovers(tmp_path, LONG_AGO)
    assert names(tmp_path) == before


def test_a_lock_that_somebody_tried_keeps_nothing(tmp_path: Path, some_file: SomeFile) -> None:
    came_in_part(tmp_path / "tiny.gguf", some_file)
    age(tmp_path)
    lock = beside(tmp_path / "tiny.gguf", ".lock")
    lock.touch()
    drop_leftovers(tmp_path, LONG_AGO)
    assert names(tmp_path) == []
    lock.touch()
    age(tmp_path)
    drop_leftovers(tmp_path, LONG_AGO)
    assert names(tmp_path) == []


def test_what_somebody_writes_stays_however_old_it_is(tmp_path: Path, some_file: SomeFile) -> None:
    async def main() -> None:
        async with open_partial(tmp_path / "tiny.gguf", some_file.wanted) as partial:
            await partial.write(0, [some_file.chunk(0)])
            age(tmp_path)
            drop_leftovers(tmp_path, LONG_AGO)
            assert 0 in partial.have
            assert await partial.read(0) == some_file.chunk(0)

    trio.run(main)


def test_what_is_needed_stays(tmp_path: Path, some_file: SomeFile) -> None:
    came_in_part(tmp_path / "tiny.gguf", some_file)
    came_in_part(tmp_path / "other.gguf", some_file)
    age(tmp_path)
    drop_leftovers(tmp_path, LONG_AGO, lambda name: name == "tiny.gguf")
    assert {name.split(".")[1] for name in names(tmp_path)} == {"tiny"}


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links here")
def test_nothing_outside_of_the_folder_is_touched(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (elsewhere / "a.gguf", folder / "below" / "b.gguf"):
        path.write_bytes(b"somebody's")
    (folder / "a.gguf").symlink_to(elsewhere / "a.gguf")
    (folder / "..partial").write_bytes(b"of no name")
    for path in (elsewhere, folder / "below", folder):
        age(path)
    (tmp_path / "linked").symlink_to(elsewhere, target_is_directory=True)
    drop_leftovers(folder, LONG_AGO)
    drop_leftovers(tmp_path / "linked", LONG_AGO)
    drop_leftovers(tmp_path / "missing", LONG_AGO)
    assert names(tmp_path) == ["elsewhere", "folder", "linked"]
    assert names(folder) == ["a.gguf", "below"]
    assert names(folder / "below") == ["b.gguf"]
    assert names(elsewhere) == ["a.gguf"]


def test_manifests_go_the_same_way(tmp_path: Path) -> None:
    async def main() -> None:
        kept = KeptManifests(tmp_path)
        manifest = manifest_of([ManifestFile("a", 1, "00" * 32, bytes(32))])
        await kept.keep(manifest)
        await kept.drop_older(LONG_AGO)
        assert await kept.get(manifest.id) is not None
        age(tmp_path)
        await kept.drop_older(LONG_AGO)
        assert await kept.get(manifest.id) is None

    trio.run(main)
