"""An order is a job: refused at once with a reason, cancelled, failed, or gone on with after a restart."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from api.errors import HttpError
from api.model_manager import ModelOrder
from ledger.records import ModelName, PlacementRecord
from node.errors import NodeError
from node.install import swarm_watch
from node.install.order import Order
from node.install.swarm_watch import SwarmWatch
from node.jobs.board import UNENDED_MAX
from node.jobs.job import Job
from node.models.errors import BadModelName
from node.sources.errors import BadReference
from tests.node.install.town import CHUNK, TINY, Home, Town, gguf, in_town, sha256_of
from tests.node.sources.web import Reply, always

MODEL = gguf(8)


async def half_way(home: Home, town: Town, *, chunks: int = 4) -> Job:
    """An order of which so many chunks have come."""
    town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
    town.web.stops_after = chunks * CHUNK
    job = home.order("home@tiny")
    await home.until(lambda: home.chunks() == chunks)
    return job


def asked_from(town: Town, since: int) -> list[int]:
    """Where the ranges begin that were asked for."""
    ranges = [each.partition("=")[2].partition("-")[0] for each in town.web.ranges()[since:]]
    return [int(start) for start in ranges if start]


def test_a_cancelled_pull_keeps_what_came_and_the_next_goes_on(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job = await half_way(ben, town)
            assert ben.jobs.cancel(job.id)
            assert (await ben.jobs.wait_ended(job.id)).state == "cancelled"
            assert (dict(ben.catalog.definitions), ben.coming.beside([]), ben.store._growing) == ({}, [], {})
            town.web.goes_on.set()
            asked = len(town.web.asked)
            assert (await ben.pull("home@tiny")).state == "done"
            assert max(asked_from(town, asked)) == 4 * CHUNK
            assert (ben.models / "tiny.gguf").read_bytes() == MODEL

    in_town(tmp_path, test)


def test_a_job_that_ran_when_the_node_ended_goes_on_at_the_next_start(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job = await half_way(ben, town)
        town.web.goes_on.set()
        asked = len(town.web.asked)
        async with town.home("ben") as ben:
            await ben.until(lambda: ben.jobs.get(job.id))
            assert (await ben.jobs.wait_ended(job.id)).state == "done"
            assert max(asked_from(town, asked)) == 4 * CHUNK
            assert (await ben.knows()).sha256 == sha256_of(MODEL)

    in_town(tmp_path, test)


def test_a_node_that_has_just_started_downloads_nothing_before_it_has_met_who_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = trio.Event()
    wait_until = SwarmWatch.wait_until

    async def say_and_wait_until(watch: SwarmWatch, condition: Callable[[], bool]) -> None:
        waits.set()
        await wait_until(watch, condition)

    # However long it takes anna to come back on a busy machine.
    monkeypatch.setattr(swarm_watch, "_MEETING_TIME", math.inf)
    monkeypatch.setattr(SwarmWatch, "wait_until", say_and_wait_until)

    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("anna") as anna:
            anna.keep(MODEL)
            await anna.knows()
            ended = anna.records()
        async with town.home("ben") as ben:
            job = ben.order("home@tiny")
            town.rows[anna.peer] = ended
            await waits.wait()
            async with town.home("anna") as anna:
                await anna.knows()
                assert (await ben.jobs.wait_ended(job.id)).state == "done"
            # What the name means had to be looked up, and what it is came from anna.
            assert [each.target for each in town.web.asked] == ["/index.yaml"]

    in_town(tmp_path, test)


def test_who_asks_twice_is_shown_the_same_job(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job = await half_way(ben, town)
            assert ben.order("home@tiny").id == job.id
            town.web.goes_on.set()
            await ben.jobs.wait_ended(job.id)

    in_town(tmp_path, test)


def test_orders_that_wait_for_another_one_keep_no_other_model_from_coming(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben):
            anna.keep(gguf(3, seed=2), "other")
            await anna.knows(ModelName("other"))
            first = await half_way(ben, town)
            waiting = [ben.order("home@tiny", name=name) for name in ("one", "two", "three")]
            assert (await ben.pull("other")).state == "done"
            states = [ben.jobs.get(job.id).state for job in (first, *waiting)]  # type: ignore[union-attr]
            assert states == ["running"] * 4
            town.web.goes_on.set()
            ended = [await ben.jobs.wait_ended(job.id) for job in (first, *waiting)]
            assert {job.state for job in ended} == {"done"}

    in_town(tmp_path, test)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (Order("ftp://host/tiny.gguf"), BadReference),
        (Order("demo", name="what a name!\n"), BadModelName),
        (Order("../../etc/passwd\0"), BadReference),
    ],
)
def test_an_order_that_names_nothing_is_refused_at_once(
    tmp_path: Path, order: Order, error: type[NodeError]
) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            with pytest.raises(error):
                ben.manager.order(order)
            assert list(ben.jobs.jobs()) == []

    in_town(tmp_path, test)


@pytest.mark.parametrize(
    ("order", "param"),
    [
        (ModelOrder("ftp://host/tiny.gguf"), "url"),
        (ModelOrder("demo", name="what a name!\n"), "name"),
    ],
)
def test_what_is_wrong_with_an_order_over_http_is_the_clients_fault(
    tmp_path: Path, order: ModelOrder, param: str
) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            with pytest.raises(HttpError) as caught:
                ben.manager.order_model(order)
            assert (caught.value.status, caught.value.param) == (400, param)

    in_town(tmp_path, test)


def test_what_galleries_offer_is_listed_with_what_is_left_out(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        town.web.pages["/index.yaml"] = always(Reply(200, b"- {name: tiny}\n- {name: broken, files: 1}\n"))
        async with town.home("ben") as ben:
            found = await ben.manager.available_models()
            assert [(model["name"], model["installed"]) for model in found.models] == [("tiny", False)]
            assert len(found.warnings) == 1
            assert "model 2 (broken) is left out" in found.warnings[0]

    in_town(tmp_path, test)


def test_too_many_orders_over_http_are_to_come_again_later(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            for number in range(UNENDED_MAX):
                ben.order(f"{town.web.root}/{number}.gguf")
            with pytest.raises(HttpError) as caught:
                ben.manager.order_model(ModelOrder("demo"))
            assert caught.value.status == 429

    in_town(tmp_path, test)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("home@nothing", "nothing"),
        ("other@tiny", "other"),
        ("/nowhere/tiny.gguf", "/nowhere/tiny.gguf"),
    ],
)
def test_what_is_not_there_fails_with_a_reason_and_the_node_goes_on(
    tmp_path: Path, reference: str, reason: str
) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("ben") as ben:
            job = await ben.pull(reference)
            assert job.state == "failed"
            assert reason in job.reason
            assert (await ben.pull("home@tiny")).state == "done"

    in_town(tmp_path, test)


def write_jobs(folder: Path, *orders: dict[str, object]) -> None:
    folder.mkdir(parents=True)
    rows = [
        {"id": f"job-{number}", "kind": "install", "model": "tiny", "order": order, "state": "running"}
        for number, order in enumerate(orders)
    ]
    (folder / "jobs.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    "order",
    [
        {"reference": "demo", "speed": "warp"},
        {"reference": "demo", "files": [{"name": "x"}]},
        {"reference": "demo", "files": 7},
        {"reference": "ftp://host"},
        {"reference": 7},
    ],
)
def test_an_order_that_this_version_cannot_read_fails_and_the_node_starts(
    tmp_path: Path, order: dict[str, object]
) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        write_jobs(tmp_path / "ben", order)
        async with town.home("ben") as ben:
            job = await ben.until(lambda: next(iter(ben.jobs.jobs()), None))
            assert (await ben.jobs.wait_ended(job.id)).state == "failed"
            assert (await ben.pull("home@tiny")).state == "done"

    in_town(tmp_path, test)


def test_a_job_that_breaks_in_a_way_nobody_thought_of_does_not_end_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("ben") as ben:
            with monkeypatch.context() as patch:
                patch.setattr(ben, "_resolver", None)
                patch.setattr(type(ben.installer), "open_resolver", broken)
                job = await ben.pull("home@tiny")
            assert (job.state, "its log says how" in job.reason) == ("failed", True)
            assert (await ben.pull("home@tiny")).state == "done"

    in_town(tmp_path, test)


def broken(_: object) -> None:
    raise AssertionError("nobody thought of this")


def test_a_placed_fetch_that_a_person_cancels_is_one_that_failed(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben), trio.open_nursery() as nursery:
            anna.keep(MODEL)
            known = await anna.knows()
            anna.store.read = hang  # type: ignore[method-assign, assignment]
            raised: list[NodeError] = []

            async def fetch() -> None:
                try:
                    await ben.manager.fetch(
                        PlacementRecord(TINY, sha256=known.sha256, manifest=known.manifest, size_bytes=9)
                    )
                except NodeError as error:
                    raised.append(error)

            nursery.start_soon(fetch)
            job = await ben.until(lambda: next((j for j in ben.jobs.jobs() if j.state == "running"), None))
            ben.manager.cancel_job(job.id)
            await ben.until(lambda: raised)
            assert "somebody cancelled" in str(raised[0])

    in_town(tmp_path, test)


def test_a_placed_fetch_that_is_not_wanted_any_more_ends_its_job(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.living("anna", "ben") as (anna, ben), trio.open_nursery() as nursery:
            anna.keep(MODEL)
            known = await anna.knows()
            anna.store.read = hang  # type: ignore[method-assign, assignment]
            wanted = PlacementRecord(TINY, sha256=known.sha256, manifest=known.manifest, size_bytes=9)
            nursery.start_soon(ben.manager.fetch, wanted)
            job = await ben.until(lambda: next((j for j in ben.jobs.jobs() if j.state == "running"), None))
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert (await ben.jobs.wait_ended(job.id)).state == "cancelled"

    in_town(tmp_path, test)


def test_what_is_loaded_and_hashed_is_cancelled_like_any_job(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            assert ben.manager.cancel_job("load-tiny")
            with pytest.raises(HttpError) as caught:
                ben.manager.cancel_job("load-busy")
            assert (caught.value.status, caught.value.code) == (409, "job_goes_on")
            assert not ben.manager.cancel_job("load-gone")

    in_town(tmp_path, test)


def test_what_the_swarm_may_put_here_has_an_end(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            with pytest.raises(NodeError, match="too much together"):
                await ben.manager.fetch(PlacementRecord(ModelName("huge"), size_bytes=2**30 + 1))

    in_town(tmp_path, test)


async def hang(*_: object) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


Step = Callable[[Home], bool]

STEPS: dict[str, Step] = {
    "while it is looked up": lambda home: bool(home.town.web.asked),
    "while it comes": lambda home: home.chunks() > 0,
    "while something runs": lambda home: TINY in home.worker.draining,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_wherever_it_is_cancelled_nothing_is_left_but_what_came(tmp_path: Path, step: Step) -> None:
    async def test(town: Town) -> None:
        town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
        async with town.home("ben") as ben:
            ben.keep(gguf(2, seed=9))
            before = await ben.knows()
            ben.worker.running[TINY] = trio.Event()
            job = ben.order("home@tiny")
            await ben.until(lambda: step(ben))
            ben.jobs.cancel(job.id)
            assert (await ben.jobs.wait_ended(job.id)).state == "cancelled"
            assert await ben.knows() == before
            assert (ben.store._growing, ben.coming.beside([]), ben.installer.means.turns._locks) == (
                {},
                [],
                {},
            )
            ben.worker.running.clear()
            assert (await ben.pull("home@tiny")).state == "done"
            assert (await ben.knows()).sha256 == sha256_of(MODEL)

    in_town(tmp_path, test)


def test_an_order_for_nothing_says_what_to_write(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            with pytest.raises(BadReference, match="no model was named"):
                ben.order("")

    in_town(tmp_path, test)
