"""Models come from peers if any has them, and from outside once for all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from ledger.records import ModelName, ModelRecord
from node.install import installer, swarm_watch, ways
from node.jobs.job import Job
from node.sources.reference import parse_reference
from p2p.blobs.manifest import ManifestId, source_key
from p2p.blobs.reputation import MANIFESTS_WRONG_MAX
from p2p.peer import PeerId
from tests.node.install.town import CHUNK, TINY, UNIX_TIME, Home, Town, gguf, in_town, sha256_of
from tests.node.sources.web import Asked, Reply, always, file_of

MODEL = gguf(10)
SHA256 = sha256_of(MODEL)

Offered = Callable[[Town], str]


def source_of(reference: str) -> str:
    """What who wants that is known by."""
    return source_key(hashlib.sha256(parse_reference(reference).canonical.encode()).hexdigest())


def by_gallery(town: Town) -> str:
    """Its sha256 is known beforehand."""
    town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL}, license="mit")
    return "home@tiny"


def by_address(town: Town) -> str:
    """Nobody knows its sha256 before all of it has come."""
    return town.web.offer(MODEL)


either_way = pytest.mark.parametrize("offered", [by_gallery, by_address])


@pytest.fixture(autouse=True)
def _started_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node waits for others to come back."""
    monkeypatch.setattr(swarm_watch, "_MEETING_TIME", 0.0)


async def ended(home: Home, job: Job) -> Job:
    return await home.jobs.wait_ended(job.id)


def assert_done(*jobs: Job) -> None:
    assert [(job.state, job.reason) for job in jobs] == [("done", "")] * len(jobs)


def downloads(town: Town) -> list[Asked]:
    """What was asked of the model's file but what it is."""
    return [each for each in town.web.asked if each.method == "GET" and each.target.endswith(".gguf")]


def assert_sent_once(town: Town) -> None:
    """One file, and the gallery's pages."""
    assert town.web.sent_bytes <= len(MODEL) + 4096


def test_a_peers_copy_is_taken_before_any_source_is_asked(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(MODEL, parameters={"model": "tiny.gguf", "temperature": 0.5})
            await anna.knows()
            job = await ben.pull("tiny")
            assert_done(job)
            assert job.model == "tiny"
            assert job.sources["anna"] >= len(MODEL)
            assert town.web.asked == []
            assert ben.left() == ["tiny.gguf", "tiny.yaml"]
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL
            assert ben.catalog.definitions[TINY].settings.sampling.temperature == 0.5
            assert (await ben.knows()).manifest == (await anna.knows()).manifest

    in_town(tmp_path, test)


@either_way
def test_what_nobody_has_is_downloaded_once_and_then_taken_from_who_has_it(
    tmp_path: Path, offered: Offered
) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        async with town.living("anna", "ben") as (anna, ben):
            assert_done(await anna.pull(reference))
            await anna.knows()
            job = await ben.pull(reference)
            assert_done(job)
            assert job.sources.keys() == {"anna"}
            assert (await ben.knows()).sha256 == SHA256
            assert_sent_once(town)

    in_town(tmp_path, test)


@either_way
def test_of_two_that_pull_the_same_one_downloads_and_the_other_follows_chunk_by_chunk(
    tmp_path: Path, offered: Offered
) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        town.web.stops_after = 6 * CHUNK
        async with town.living("anna", "ben", "cleo") as (anna, *others):
            first = anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            jobs = [home.order(reference) for home in others]
            for home in others:
                await home.until(lambda home=home: home.chunks() >= 3)  # type: ignore[misc]
            assert town.web.stuck == 1
            town.web.goes_on.set()
            assert_done(
                await ended(anna, first), *[await ended(h, j) for h, j in zip(others, jobs, strict=True)]
            )
            for home in others:
                assert (home.models / "tiny.gguf").read_bytes() == MODEL
                assert (await home.knows()).sha256 == SHA256
            assert_sent_once(town)

    in_town(tmp_path, test)


@either_way
def test_of_two_origins_the_smaller_id_goes_on_and_the_other_keeps_its_chunks(
    tmp_path: Path, offered: Offered
) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        town.web.stops_after = 3 * CHUNK
        async with town.living("anna", "ben") as (anna, ben):
            anna.hidden, ben.hidden = {ben.peer}, {anna.peer}
            jobs = anna.order(reference), ben.order(reference)
            await ben.until(lambda: town.web.stuck == 2 and anna.chunks() == ben.chunks() == 3)
            anna.hidden, ben.hidden = set(), set()
            town.tell_all()
            await ben.until(lambda: [each.is_origin for each in ben.coming.beside([])] == [False])
            await ben.until(lambda: ben.chunks() == 3)
            town.web.goes_on.set()
            first, second = await ended(anna, jobs[0]), await ended(ben, jobs[1])
            assert_done(first, second)
            assert "anna" not in first.sources
            assert "ben" not in first.sources
            assert ben.seeder.uploaded[anna.peer] == 0
            assert anna.seeder.uploaded[ben.peer] == len(MODEL) - 3 * CHUNK
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL
            assert len(downloads(town)) == 2

    in_town(tmp_path, test)


def ban(home: Home, peer: PeerId) -> None:
    for number in range(MANIFESTS_WRONG_MAX):
        home.reputation.note_wrong(peer, ManifestId(f"{number:064}"), UNIX_TIME)


@pytest.mark.parametrize("is_followed_before", [False, True])
def test_an_origin_that_is_banned_is_not_followed(tmp_path: Path, *, is_followed_before: bool) -> None:
    async def test(town: Town) -> None:
        reference = by_address(town)
        town.web.stops_after = 3 * CHUNK
        async with town.living("anna", "ben") as (anna, ben):
            first = anna.order(reference)
            await anna.until(lambda: anna.chunks() == 3)
            if is_followed_before:
                second = ben.order(reference)
                await ben.until(lambda: ben.chunks() == 3)
                ban(ben, anna.peer)
            else:
                ban(ben, anna.peer)
                second = ben.order(reference)
            await ben.until(lambda: [each.is_origin for each in ben.coming.beside([])] == [True])
            town.web.goes_on.set()
            assert_done(await ended(anna, first), await ended(ben, second))
            assert anna.seeder.uploaded[ben.peer] == (3 * CHUNK if is_followed_before else 0)

    in_town(tmp_path, test)


@either_way
def test_where_the_origin_dies_a_follower_goes_on_from_what_is_missing(
    tmp_path: Path, offered: Offered
) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        town.web.stops_after = 6 * CHUNK
        async with town.living("ben", "cleo") as (ben, cleo), AsyncExitStack() as life:
            anna = await life.enter_async_context(town.home("anna"))
            anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            jobs = ben.order(reference), cleo.order(reference)
            await ben.until(lambda: ben.chunks() >= 3 and cleo.chunks() >= 3)
            asked = len(downloads(town))
            await life.aclose()
            town.web.goes_on.set()
            assert_done(await ended(ben, jobs[0]), await ended(cleo, jobs[1]))
            assert (await cleo.knows()).sha256 == SHA256
            later = [each.headers["range"] for each in downloads(town)[asked:]]
            starts = sorted(int(each.partition("=")[2].partition("-")[0]) for each in later)
            assert starts[-1] >= 3 * CHUNK
            assert starts.count(0) <= 2  # To see that it is the same file.

    in_town(tmp_path, test)


@either_way
def test_where_the_origin_gives_nothing_any_more_a_follower_goes_on_from_what_is_missing(
    tmp_path: Path, offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        town.web.stops_after = 6 * CHUNK
        async with town.living("anna", "ben") as (anna, ben):
            anna.order(reference)
            await ben.until(lambda: town.web.stuck)
            job = ben.order(reference)
            await ben.until(lambda: ben.chunks() == 6)
            monkeypatch.setattr(ways, "_LEADER_PATIENCE", 0.0)
            done = await ended(ben, job)
            assert_done(done)
            assert "anna says to download it and gives nothing: getting it elsewhere" in done.warnings
            assert [each.is_origin for each in anna.coming.beside([])] == [True]
            assert downloads(town)[-1].headers["range"].startswith(f"bytes={6 * CHUNK}-")
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_what_a_dead_origin_gave_of_another_version_is_not_gone_on_with(tmp_path: Path) -> None:
    other = gguf(10, seed=2)
    assert len(other) == len(MODEL)

    async def test(town: Town) -> None:
        reference = by_address(town)
        town.web.stops_after = 6 * CHUNK
        async with town.home("ben") as ben, AsyncExitStack() as life:
            anna = await life.enter_async_context(town.home("anna"))
            anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            job = ben.order(reference)
            await ben.until(lambda: ben.chunks() >= 3)
            town.web.pages["/tiny.gguf"] = file_of(other, etag='"v2"')
            await life.aclose()
            town.web.goes_on.set()
            assert_done(await ended(ben, job))
            assert (ben.models / "tiny.gguf").read_bytes() == other

    in_town(tmp_path, test)


def test_a_file_that_changes_while_it_is_looked_up_is_known_by_what_came(tmp_path: Path) -> None:
    other = gguf(10, seed=2)

    async def test(town: Town) -> None:
        reference = by_address(town)
        town.web.stops_after = 6 * CHUNK
        before, after = file_of(other, etag='"v2"'), file_of(MODEL)
        town.web.pages["/tiny.gguf"] = lambda asked: (after if asked.method == "HEAD" else before)(asked)
        async with town.home("ben") as ben, AsyncExitStack() as life:
            anna = await life.enter_async_context(town.home("anna"))
            anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            job = ben.order(reference)
            await ben.until(lambda: ben.chunks() >= 3)
            town.web.pages["/tiny.gguf"] = after
            await life.aclose()
            town.web.goes_on.set()
            assert_done(await ended(ben, job))
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


@pytest.mark.parametrize("version", ["", '"v2"'])
def test_who_cannot_tell_which_version_the_origin_has_follows_it_nevertheless(
    tmp_path: Path, version: str
) -> None:
    async def test(town: Town) -> None:
        reference = by_address(town)
        town.web.stops_after = 6 * CHUNK
        async with town.living("anna", "ben") as (anna, ben):
            first = anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            town.web.pages["/tiny.gguf"] = always(Reply(200 if version else 405, b"", {"etag": version}))
            second = ben.order(reference)
            await ben.until(lambda: ben.chunks() >= 3)
            town.web.goes_on.set()
            assert_done(await ended(anna, first), await ended(ben, second))
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL
            assert_sent_once(town)

    in_town(tmp_path, test)


def test_a_follower_that_finds_no_source_waits_and_gets_it_from_peers(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        reference = by_gallery(town)
        town.web.stops_after = 6 * CHUNK
        async with town.living("anna", "ben") as (anna, ben):
            ben.gallery = "nothing-there.yaml"
            first = anna.order(reference)
            await anna.until(lambda: anna.chunks() >= 3)
            second = ben.order(reference)
            await ben.until(lambda: "waiting" in ben.jobs.get(second.id).step)  # type: ignore[union-attr]
            town.web.goes_on.set()
            assert_done(await ended(anna, first), await ended(ben, second))
            assert (await ben.knows()).sha256 == SHA256
            assert_sent_once(town)

    in_town(tmp_path, test)


def test_where_the_only_holder_goes_away_the_rest_is_downloaded(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        reference = by_gallery(town)
        async with town.living("ben") as (ben,), AsyncExitStack() as life:
            anna = await life.enter_async_context(town.home("anna"))
            anna.keep(MODEL)
            await anna.knows()
            read, came = anna.store.read, 0

            async def read_some(file: object, chunk: int) -> bytes:
                nonlocal came
                came += 1
                if came > 4:
                    await trio.sleep_forever()
                return await read(file, chunk)  # type: ignore[arg-type]

            anna.store.read = read_some  # type: ignore[method-assign]
            job = ben.order("tiny")
            await ben.until(lambda: ben.chunks() == 4)
            await life.aclose()
            done = await ended(ben, job)
            assert_done(done)
            assert reference
            assert done.sources == {
                "anna": 4 * CHUNK,
                f"{town.web.root}/tiny/tiny.gguf": len(MODEL) - 4 * CHUNK,
            }
            assert (await ben.knows()).sha256 == SHA256

    in_town(tmp_path, test)


def gives_no_manifest(anna: Home, **changed: object) -> ModelRecord:
    """What anna says of a model of which she does not give the manifest: that she has it, whole."""
    told = ModelRecord(TINY, "cold", sha256=SHA256, manifest="0" * 64, size_bytes=len(MODEL))
    anna.lies[TINY] = replace(told, **changed)  # type: ignore[arg-type]
    return anna.lies[TINY]


def test_where_a_peer_gives_no_manifest_another_ones_copy_is_taken(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben", "cleo") as (anna, ben, cleo):
            cleo.keep(MODEL)
            # Of two manifests that one peer each has, the smaller is tried first.
            assert gives_no_manifest(anna).manifest < (await cleo.knows()).manifest
            job = await ben.pull("tiny")
            assert_done(job)
            assert job.sources.keys() == {"cleo"}
            assert town.web.asked == []

    in_town(tmp_path, test)


@either_way
def test_where_nobody_gives_the_manifest_the_source_is_asked(tmp_path: Path, offered: Offered) -> None:
    async def test(town: Town) -> None:
        reference = offered(town)
        async with town.living("anna", "ben") as (anna, ben):
            gives_no_manifest(anna, source=source_of(reference))
            assert_done(await ben.pull(reference))
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_what_the_swarm_wants_here_comes_from_who_gives_it(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben", "cleo") as (anna, ben, cleo):
            gives_no_manifest(anna)
            cleo.keep(MODEL)
            await cleo.knows()
            assert_done(await ben.pull(name="tiny", is_placed=True))

    in_town(tmp_path, test)


def test_who_was_too_busy_to_give_it_is_asked_again_where_the_source_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "_SOURCE_PAUSE", 0.01)

    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(MODEL)
            await anna.knows()
            give = anna.store.manifest
            anna.store.manifest = nothing  # type: ignore[method-assign, assignment]
            job = ben.order("tiny")
            await ben.until(lambda: "waiting for a node" in ben.jobs.get(job.id).step)  # type: ignore[union-attr]
            anna.store.manifest = give  # type: ignore[method-assign]
            assert_done(await ended(ben, job))

    in_town(tmp_path, test)


async def nothing(_: object) -> None:
    await trio.lowlevel.checkpoint()


def test_what_was_here_already_is_done_at_once(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        reference = by_gallery(town)
        async with town.living("anna") as (anna,):
            assert_done(await anna.pull(reference))
            asked = len(town.web.asked)
            again = await anna.pull(reference)
            assert_done(again)
            assert (again.model, len(town.web.asked)) == ("tiny", asked)

    in_town(tmp_path, test)


def test_what_somebody_deleted_by_hand_comes_again(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        reference = by_gallery(town)
        async with town.living("anna") as (anna,):
            assert_done(await anna.pull(reference))
            await anna.knows()
            (anna.models / "tiny.gguf").unlink()
            assert_done(await anna.pull(reference))
            assert (anna.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_two_orders_for_one_file_under_two_names_fetch_it_once(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(MODEL)
            await anna.knows()
            jobs = [ben.order("tiny", name=name) for name in ("one", "two")]
            assert_done(*[await ended(ben, job) for job in jobs])
            for name in ("one", "two"):
                assert (ben.models / f"{name}.gguf").read_bytes() == MODEL
                assert (await ben.knows(ModelName(name))).sha256 == SHA256
            assert anna.seeder.uploaded[ben.peer] <= len(MODEL) + CHUNK

    in_town(tmp_path, test)


def test_settings_that_somebody_orders_are_his_own_also_where_a_peer_has_the_file(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        reference = by_gallery(town)
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(MODEL, parameters={"model": "tiny.gguf", "temperature": 0.5})
            await anna.knows()
            job = await ben.pull(reference, overrides={"parameters": {"temperature": 0.9}})
            assert_done(job)
            assert ben.catalog.definitions[TINY].settings.sampling.temperature == 0.9
            assert anna.seeder.uploaded[ben.peer] >= len(MODEL)
            again = await ben.pull(reference, overrides={"parameters": {"temperature": 0.1}})
            assert_done(again)
            assert ben.catalog.definitions[TINY].settings.sampling.temperature == 0.1

    in_town(tmp_path, test)


def test_a_model_of_several_files_comes_whole(tmp_path: Path) -> None:
    parts = [gguf(4, seed=2), gguf(3, seed=3)]
    eye = gguf(2, seed=4)

    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            for number, part in enumerate(parts, 1):
                (anna.models / f"big-0000{number}-of-00002.gguf").write_bytes(part)
            (anna.models / "eye.gguf").write_bytes(eye)
            settings = "mmproj: eye.gguf\ncontext_size: 512\nparameters: {model: big-00001-of-00002.gguf}\n"
            (anna.models / "big.yaml").write_text(settings)
            anna.serve(anna.models / "big.yaml")
            known = await anna.knows(ModelName("big"))
            assert_done(await ben.pull("big", name="org/large"))
            assert ben.left() == [
                "org_large-00001-of-00002.gguf",
                "org_large-00002-of-00002.gguf",
                "org_large.mmproj.gguf",
                "org_large.yaml",
            ]
            assert (await ben.knows(ModelName("org/large"))).manifest == known.manifest
            definition = ben.catalog.definitions[ModelName("org/large")]
            assert [file.read_bytes() for file in definition.files] == [*parts, eye]
            assert definition.settings.context_size == 512

    in_town(tmp_path, test)


def test_a_model_of_this_machine_comes_whole_with_every_character_of_its_settings(tmp_path: Path) -> None:
    model, eye = gguf(4, seed=2), gguf(2, seed=4)

    async def test(town: Town) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        (disk / "big.gguf").write_bytes(model)
        (disk / "eye.gguf").write_bytes(eye)
        (disk / "big.yaml").write_text('mmproj: eye.gguf\nstopwords: ["a\\Nb"]\n')
        async with town.living("anna") as (anna,):
            assert_done(await anna.pull(str(disk / "big.yaml")))
            assert anna.left() == ["big.gguf", "big.mmproj.gguf", "big.yaml"]
            definition = anna.catalog.definitions[ModelName("big")]
            assert [file.read_bytes() for file in definition.files] == [model, eye]
            assert definition.settings.stop == ("a\x85b",)

    in_town(tmp_path, test)


def test_who_mistypes_a_name_is_told_what_nodes_have(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("other", {"other.gguf": MODEL})
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(MODEL)
            await anna.knows()
            assert (await ben.pull("tinny")).reason == (
                "no gallery has a model that is called 'tinny'; nodes that are here have tiny"
            )

    in_town(tmp_path, test)
