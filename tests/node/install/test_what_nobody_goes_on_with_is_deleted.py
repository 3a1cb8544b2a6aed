"""What a cancelled or failed order left is kept for a while, for who gives it again, and then deleted."""

from __future__ import annotations

import os
import time
from pathlib import Path

from node.jobs.job import JobId
from node.store.leftovers import KEPT_TIME
from p2p.blobs.manifest import manifest_of
from tests.node.install.town import CHUNK, Home, Town, gguf, in_town, listed

MODEL = gguf(8)


async def leave_half(ben: Home, town: Town) -> JobId:
    """An order that is under way, and of which a part has come."""
    town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
    town.web.stops_after = 4 * CHUNK
    job = ben.order("home@tiny")
    await ben.until(lambda: ben.chunks() == 4)
    await ben.store.manifests.keep(manifest_of([listed(MODEL)]))
    return job.id


def leave_for(seconds: float, folder: Path) -> None:
    """Make all that came that old."""
    for path in (*(folder / "models" / ".arriving").iterdir(), *(folder / "manifests").iterdir()):
        written = time.time() - seconds
        os.utime(path, (written, written))


async def next_start(ben: Home) -> None:
    """Return when the node has tidied up."""
    await ben.until(ben.jobs.jobs)
    await ben.jobs.wait_ended(ben.order("home@nobody-has-it").id)


def test_what_was_cancelled_is_kept_for_a_while_and_then_deleted(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job_id = await leave_half(ben, town)
            ben.jobs.cancel(job_id)
            await ben.jobs.wait_ended(job_id)
        left = ben.left()
        assert ".arriving/.tiny.gguf.partial" in left
        leave_for(KEPT_TIME - 3600, ben.folder)
        async with town.home("ben") as ben:
            await next_start(ben)
            assert ben.left() == left
        leave_for(KEPT_TIME + 3600, ben.folder)
        async with town.home("ben") as ben:
            await next_start(ben)
            assert ben.left() == []
            assert list((ben.folder / "manifests").iterdir()) == []

    in_town(tmp_path, test)


def test_what_a_job_that_has_not_ended_needs_is_kept_however_old_it_is(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job_id = await leave_half(ben, town)
        asked = len(town.web.asked)
        leave_for(10 * KEPT_TIME, ben.folder)
        town.web.goes_on.set()
        async with town.home("ben") as ben:
            await ben.until(lambda: ben.jobs.get(job_id))
            assert len(list((ben.folder / "manifests").iterdir())) == 1
            assert (await ben.jobs.wait_ended(job_id)).state == "done"
        starts = [each.partition("=")[2].partition("-")[0] for each in town.web.ranges()[asked:]]
        assert f"{4 * CHUNK}" in starts

    in_town(tmp_path, test)


def test_a_job_that_is_gone_on_with_still_knows_the_name_of_its_model(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            job_id = await leave_half(ben, town)
        async with town.home("ben") as ben:
            ben.gallery = "nothing-there.yaml"
            await ben.until(lambda: ben.jobs.get(job_id))
            job = await ben.jobs.wait_ended(job_id)
            assert (job.state, job.model) == ("failed", "tiny")

    in_town(tmp_path, test)


def test_a_secret_in_an_address_is_not_shown_with_its_job(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben") as ben:
            address = town.web.offer(MODEL).replace("http://", "http://me:swordfish@")
            town.web.stops_after = CHUNK
            job = ben.order(address)
            shown = [job.as_map()]
            while not ben.chunks():
                shown.append(ben.jobs.get(job.id).as_map())  # type: ignore[union-attr]
                await ben.jobs.revision.after(ben.jobs.revision.number)
            assert len(shown) > 1
            assert "swordfish" not in str(shown)

    in_town(tmp_path, test)
