"""Whatever peers and sources give, and whatever the disk does: no half or wrong model, and a clear reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.records import ModelName, ModelRecord
from node.jobs.job import Job
from node.store import disk
from node.store.model_files import SETTINGS
from tests.node.install.town import CHUNK, TINY, Home, Stock, Town, gguf, in_town, listed, sha256_of
from tests.node.sources.web import Reply, always

MODEL = gguf(6)
OTHER = gguf(6, seed=2)


def record(stock: Stock, *files: tuple[str, bytes], sha256: str = "", lie: str = "") -> ModelRecord:
    """What is told of a model with these files. `sha256`: of its weights; `lie`: what the manifest says it
    is."""
    entries = [
        (listed(content, name, lie if name.endswith(".gguf") else ""), content) for name, content in files
    ]
    manifest = stock.add(*entries)
    for entry, content in entries:
        stock.files[entry.key] = content
    return ModelRecord(
        TINY, "cold", sha256=sha256 or lie or sha256_of(files[0][1]), manifest=manifest, size_bytes=len(MODEL)
    )


def assert_nothing_is_served(home: Home, job: Job, reason: str) -> None:
    assert job.state == "failed"
    assert reason in job.reason
    assert dict(home.catalog.definitions) == {}
    assert [file for file in home.left() if not file.startswith(".arriving")] == []


Lie = Callable[[Stock], ModelRecord]

LIES: dict[str, tuple[Lie, str]] = {
    "chunks that are no part of that file": (
        lambda stock: record(stock, ("model.gguf", OTHER), lie=sha256_of(MODEL)),
        "peers gave something else than tiny",
    ),
    "other weights than were told": (
        lambda stock: record(stock, ("model.gguf", OTHER), sha256=sha256_of(MODEL)),
        "has other weights than they say",
    ),
    "files of no model": (
        lambda stock: record(stock, ("notes.txt", MODEL)),
        "is no model",
    ),
    "a file that is none": (
        lambda stock: record(stock, ("model.gguf", b"<html>" + MODEL)),
        "not a GGUF",
    ),
    "settings that are none": (
        lambda stock: record(stock, ("model.gguf", MODEL), (SETTINGS, b"a: [")),
        "peers gave something else than tiny",
    ),
}


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES.keys())
def test_a_lying_peer_gets_nothing_served(tmp_path: Path, lie: Lie, reason: str) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        async with town.home("anna", seeds=stock) as anna, town.home("ben") as ben:
            anna.lies[TINY] = lie(stock)
            assert_nothing_is_served(ben, await ben.pull("tiny"), reason)
            assert list((tmp_path / "ben" / "manifests").glob("*")) == []

    in_town(tmp_path, test)


@pytest.mark.parametrize("lie", [lie for lie, _ in LIES.values()], ids=LIES.keys())
def test_a_lying_peer_keeps_nobody_from_the_source(tmp_path: Path, lie: Lie) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("anna", seeds=stock) as anna, town.home("ben") as ben:
            anna.lies[TINY] = lie(stock)
            assert (await ben.pull("tiny")).state == "done"
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_of_a_peers_settings_no_path_is_taken(tmp_path: Path) -> None:
    settings = b"mmproj: /etc/passwd\nparameters: {model: ../../../secret.gguf, temperature: 0.3}\n"

    async def test(town: Town) -> None:
        stock = Stock()
        async with town.home("anna", seeds=stock) as anna, town.home("ben") as ben:
            anna.lies[TINY] = record(stock, ("model.gguf", MODEL), (SETTINGS, settings))
            assert (await ben.pull("tiny")).state == "done"
            definition = ben.catalog.definitions[TINY]
            assert definition.path == ben.models / "tiny.gguf"
            assert definition.mmproj_path is None
            assert definition.settings.sampling.temperature == 0.3
            assert "passwd" not in (ben.models / "tiny.yaml").read_text()

    in_town(tmp_path, test)


def test_wrong_chunks_of_one_are_taken_from_another(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        async with town.living("ben", "cleo") as (ben, cleo), town.home("anna", seeds=stock) as anna:
            cleo.keep(MODEL)
            await cleo.knows()
            anna.lies[TINY] = record(stock, ("model.gguf", MODEL))
            stock.files[listed(MODEL).key] = bytes(len(MODEL))
            assert (await ben.pull("tiny")).state == "done"
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL
            assert list(ben.reputation.to_map()) == [anna.peer]

    in_town(tmp_path, test)


def test_who_lies_in_a_manifest_brings_nobody_into_disrepute(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        async with town.living("cleo") as (cleo,), town.home("anna", seeds=stock) as anna:
            cleo.keep(MODEL, "other")
            await cleo.knows(ModelName("other"))
            # By the sha256 of what Cleo has, and with hashes that none of its chunks have.
            anna.lies[TINY] = record(stock, ("model.gguf", OTHER), lie=sha256_of(MODEL))
            async with town.home("ben") as ben:
                assert_nothing_is_served(ben, await ben.pull("tiny"), "peers gave something else than tiny")
                assert sum(cleo.seeder.uploaded.values()) > 0, "it was not asked, so this shows nothing"
                assert ben.reputation.to_map() == {}

    in_town(tmp_path, test)


def test_where_the_only_peer_gives_wrong_chunks_the_source_is_asked(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("anna", seeds=stock) as anna, town.home("ben") as ben:
            anna.lies[TINY] = record(stock, ("model.gguf", MODEL))
            stock.files[listed(MODEL).key] = bytes(len(MODEL))
            assert (await ben.pull("tiny")).state == "done"
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_a_page_instead_of_a_model_is_not_kept(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        address = town.web.offer(MODEL)
        town.web.pages["/tiny.gguf"] = always(Reply(200, b"<html>log in</html>" * 4000))
        async with town.home("ben") as ben:
            assert_nothing_is_served(ben, await ben.pull(address), "GGUF")
            assert ben.left() == []
            town.web.offer(MODEL)
            assert (await ben.pull(address)).state == "done"

    in_town(tmp_path, test)


def test_what_a_source_calls_by_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": OTHER}, sha256=sha256_of(MODEL))
        async with town.home("ben") as ben:
            job = await ben.pull("home@tiny")
            assert_nothing_is_served(ben, job, "should have the sha256")
            assert f"it came from {town.web.root}/tiny/tiny.gguf and is deleted" in job.reason

    in_town(tmp_path, test)


def test_a_full_disk_ends_the_job_with_a_reason_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        town.web.stops_after = 3 * CHUNK
        async with town.home("ben") as ben:
            job = ben.order("home@tiny")
            await ben.until(lambda: ben.chunks() == 3)
            with monkeypatch.context() as patch:
                patch.setattr(disk, "DISK_RESERVE", 2**60)
                town.web.goes_on.set()
                assert_nothing_is_served(ben, await ben.jobs.wait_ended(job.id), "bytes left")
            asked = len(town.web.asked)
            assert (await ben.pull("home@tiny")).state == "done"
            assert f"bytes={3 * CHUNK}-" in {
                each[: each.index("-") + 1] for each in town.web.ranges()[asked:] if each
            }

    in_town(tmp_path, test)


def test_a_folder_that_cannot_be_written_ends_the_job_with_a_reason_and_not_the_node(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        address = town.web.offer(MODEL)
        async with town.home("ben") as ben:
            (ben.models / ".arriving").write_text("a file where a folder should be")
            assert_nothing_is_served(ben, await ben.pull(address), "cannot be written")
            (ben.models / ".arriving").unlink()
            assert (await ben.pull(address)).state == "done"

    in_town(tmp_path, test)


def test_a_manifest_that_is_kept_is_held_against_what_is_told_now(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        stock = Stock()
        async with town.home("anna", seeds=stock) as anna, town.home("ben") as ben:
            true = anna.lies[TINY] = record(stock, ("model.gguf", MODEL))
            manifest = await ben.installer.means.fetcher.fetch_manifest(true.manifest, [anna.peer])  # type: ignore[arg-type]
            await ben.store.manifests.keep(manifest)
            anna.lies[TINY] = replace(true, sha256=sha256_of(OTHER))
            assert_nothing_is_served(ben, await ben.pull("tiny"), "has other weights")

    in_town(tmp_path, test)
