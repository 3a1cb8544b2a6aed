"""A model takes another one's place only when it is whole, and nothing runs on that any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from ledger.records import ModelName, PlacementRecord
from node.errors import NodeError
from node.install.errors import TakesNoModels
from node.install.model_notes import ModelNote
from node.models.definition import ModelDefinition
from node.models.errors import CannotStoreModel
from tests.node.install.town import CHUNK, TINY, Home, Town, gguf, in_town, sha256_of

OLD = gguf(8)
NEW = OLD[: 5 * CHUNK] + gguf(8, seed=2)[5 * CHUNK :]
"""Three of its chunks are others."""


async def both(town: Town, anna: Home, ben: Home) -> None:
    """Anna has the new one, and ben the old one, from the same place."""
    del town
    anna.keep(NEW)
    ben.keep(OLD, context_size=512)
    await anna.knows()
    await ben.knows()


def test_the_former_is_served_until_the_new_one_is_whole_and_only_changed_chunks_come(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            await both(town, anna, ben)
            answer = ben.worker.running[TINY] = trio.Event()
            job = ben.order("tiny")
            await ben.until(lambda: TINY in ben.worker.draining)
            assert (ben.models / "tiny.gguf").read_bytes() == OLD
            assert (ben.models / ".arriving" / "tiny.gguf").read_bytes() == NEW
            answer.set()
            assert (await ben.jobs.wait_ended(job.id)).state == "done"
            assert ben.left() == ["tiny.gguf", "tiny.yaml"]
            assert (ben.models / "tiny.gguf").read_bytes() == NEW
            assert (await ben.knows()).sha256 == sha256_of(NEW)
            assert ben.catalog.definitions[TINY].settings.context_size is None
            assert anna.seeder.uploaded[ben.peer] == len(NEW) - 5 * CHUNK

    in_town(tmp_path, test)


def test_cancelled_while_something_runs_the_former_is_served_and_the_next_pull_fetches_nothing(
    tmp_path: Path,
) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            await both(town, anna, ben)
            answer = ben.worker.running[TINY] = trio.Event()
            job = ben.order("tiny")
            await ben.until(lambda: TINY in ben.worker.draining)
            assert ben.jobs.cancel(job.id)
            assert (await ben.jobs.wait_ended(job.id)).state == "cancelled"
            assert (await ben.knows()).sha256 == sha256_of(OLD)
            uploaded = anna.seeder.uploaded[ben.peer]
            answer.set()
            assert (await ben.pull("tiny")).state == "done"
            assert (await ben.knows()).sha256 == sha256_of(NEW)
            assert anna.seeder.uploaded[ben.peer] == uploaded

    in_town(tmp_path, test)


@pytest.mark.parametrize("is_by_gallery", [True, False])
def test_what_a_crash_left_finished_and_not_in_its_place_is_gone_on_with(
    tmp_path: Path, is_by_gallery: bool
) -> None:
    async def test(town: Town) -> None:
        async with town.home("anna") as anna:
            if is_by_gallery:
                town.web.list_in_gallery("tiny", {"tiny.gguf": NEW})
            else:
                anna.keep(NEW)
                await anna.knows()
            async with town.home("ben") as ben:
                ben.keep(OLD)
                await ben.knows()
                ben.worker.running[TINY] = trio.Event()
                job = ben.order("home@tiny" if is_by_gallery else "tiny")
                await ben.until(lambda: TINY in ben.worker.draining)
                await ben.until((tmp_path / "ben" / "jobs.json").exists)
                uploaded, sent = anna.seeder.uploaded[ben.peer], town.web.sent_bytes
            async with town.home("ben") as ben:
                again = await ben.until(lambda: ben.jobs.get(job.id))
                done = await ben.jobs.wait_ended(again.id)
                assert (done.state, done.reason) == ("done", "")
                assert (ben.models / "tiny.gguf").read_bytes() == NEW
                assert ben.left() == ["tiny.gguf", "tiny.yaml"]
                assert anna.seeder.uploaded[ben.peer] == uploaded
                if is_by_gallery:
                    # The head of the file at most: to see that it is there.
                    assert town.web.sent_bytes - sent <= len(NEW)

    in_town(tmp_path, test)


def test_a_file_of_another_model_is_never_written_over(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(NEW)
            await anna.knows()
            (ben.models / "tiny.gguf").write_bytes(OLD)
            (ben.models / "gpt.yaml").write_text("name: gpt\nparameters: {model: tiny.gguf}\n")
            ben.serve(ben.models / "gpt.yaml")
            job = await ben.pull("tiny")
            assert job.state == "failed"
            assert "is no file of the model tiny" in job.reason
            assert anna.seeder.uploaded[ben.peer] == 0
            assert (ben.models / "tiny.gguf").read_bytes() == OLD
            assert (await ben.pull("tiny", name="other")).state == "done"

    in_town(tmp_path, test)


def test_what_the_owner_has_elsewhere_stays_there(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        elsewhere = tmp_path / "elsewhere" / "tiny.gguf"
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(OLD)
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(NEW)
            await anna.knows()
            ben.serve(elsewhere)
            assert (await ben.pull("tiny")).state == "done"
            assert elsewhere.read_bytes() == OLD
            assert ben.catalog.definitions[TINY].path == ben.models / "tiny.gguf"

    in_town(tmp_path, test)


def placement(home: Home) -> PlacementRecord:
    record = home.whole()
    assert record is not None
    return PlacementRecord(TINY, sha256=record.sha256, manifest=record.manifest, size_bytes=len(NEW))


def test_what_the_swarm_wants_here_never_replaces_what_an_owner_put_here(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            await both(town, anna, ben)
            with pytest.raises(NodeError, match="its owner put there"):
                await ben.manager.fetch(placement(anna))
            assert (ben.models / "tiny.gguf").read_bytes() == OLD
            assert anna.seeder.uploaded[ben.peer] == 0

    in_town(tmp_path, test)


async def never() -> ModelDefinition:
    raise AssertionError("nothing was to be placed")


def test_what_an_owner_puts_here_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            ben.keep(OLD)
            note = ModelNote(sha256_of(NEW), is_placed=True)
            with pytest.raises(TakesNoModels):
                await ben.shelf.put(never, note, TINY)

    in_town(tmp_path, test)


def test_what_the_swarm_put_here_is_its_own_until_a_person_asks_for_it(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(NEW)
            await anna.knows()
            await ben.manager.fetch(placement(anna))
            await ben.knows()
            assert ben.manager.placed() == {TINY: sha256_of(NEW)}
            assert (await ben.pull("tiny")).state == "done"
            assert ben.manager.placed() == {}
            assert (ben.models / "tiny.gguf").read_bytes() == NEW

    in_town(tmp_path, test)


def test_what_an_owner_put_in_the_place_of_a_placed_copy_is_not_the_swarms(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("anna") as anna:
            anna.keep(NEW)
            await anna.knows()
            async with town.home("ben") as ben:
                await ben.manager.fetch(placement(anna))
            (tmp_path / "ben" / "models" / "tiny.gguf").write_bytes(OLD)
            async with town.home("ben") as ben:
                await ben.knows()
                assert ben.manager.placed() == {}
                assert ben.shelf.is_owned(TINY)

    in_town(tmp_path, test)


def test_what_is_not_hashed_yet_counts_as_its_owners(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(NEW)
            await anna.knows()
            await ben.shelf.notes.put(TINY, ModelNote(sha256_of(NEW), is_placed=True))
            ben.store.identify = hang  # type: ignore[method-assign, assignment]
            ben.keep(OLD)
            with pytest.raises(NodeError, match="its owner put there"):
                await ben.manager.fetch(placement(anna))
            with pytest.raises(NodeError, match="its owner's"):
                await ben.manager.give_up(TINY)
            assert (ben.models / "tiny.gguf").read_bytes() == OLD

    in_town(tmp_path, test)


async def hang(*_: object) -> None:
    await trio.sleep_forever()


def test_what_nobody_has_now_is_for_another_time(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            with pytest.raises(NodeError, match="no node that is here has all of tiny"):
                await ben.manager.fetch(PlacementRecord(TINY, sha256=sha256_of(NEW), manifest="ab" * 32))

    in_town(tmp_path, test)


def test_a_model_that_cannot_be_put_in_its_place_leaves_the_former_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.replace

    def refuse(path: Path, target: str | os.PathLike[str]) -> Path:
        if path.name == "tiny.yaml" and path.parent.name == ".arriving":
            raise PermissionError(13, "Permission denied", str(path))
        return move(path, target)

    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            await both(town, anna, ben)
            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", refuse)
                job = await ben.pull("tiny")
            assert (job.state, "cannot be moved" in job.reason) == ("failed", True)
            assert (await ben.knows()).sha256 == sha256_of(OLD)
            assert ben.catalog.definitions[TINY].settings.context_size == 512
            uploaded = anna.seeder.uploaded[ben.peer]
            assert (await ben.pull("tiny")).state == "done"
            assert (await ben.knows()).sha256 == sha256_of(NEW)
            assert anna.seeder.uploaded[ben.peer] == uploaded

    in_town(tmp_path, test)


def test_a_removed_model_drains_and_one_that_could_not_is_served_as_before(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            ben.keep(OLD)
            await ben.knows()
            answer = ben.worker.running[TINY] = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ben.shelf.remove, TINY)
                await ben.until(lambda: TINY in ben.worker.draining)
                nursery.cancel_scope.cancel()
            assert (ben.whole() is not None, ben.left()) == (True, ["tiny.gguf"])
            answer.set()
            assert await ben.shelf.remove(TINY) == [ben.models / "tiny.gguf"]
            assert (ben.worker.served, ben.left()) == ({}, [])

    in_town(tmp_path, test)


def test_models_of_other_names_change_while_one_drains(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben, trio.open_nursery() as nursery:
            ben.keep(OLD)
            ben.keep(NEW, "other")
            ben.worker.running[TINY] = trio.Event()
            nursery.start_soon(ben.shelf.remove, TINY)
            await ben.until(lambda: TINY in ben.worker.draining)
            await ben.shelf.remove(ModelName("other"))
            assert ben.left() == ["tiny.gguf"]
            ben.worker.running[TINY].set()

    in_town(tmp_path, test)


def test_a_name_in_the_folder_is_free_for_the_model_that_has_it_alone(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            ben.keep(OLD)
            ben.catalog.require_room_for(TINY, ["tiny.gguf", "tiny.yaml"])
            with pytest.raises(CannotStoreModel):
                ben.catalog.require_room_for(ModelName("other"), ["tiny.gguf"])

    in_town(tmp_path, test)
