"""A model that this machine has not the memory for is told apart before any of it comes, whoever gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from ledger.records import ModelName
from node.install.weighing import Weighing
from node.models.catalog import Catalog
from node.models.memory_estimate import guess_memory
from node.store.model_files import PROJECTOR
from tests.node.install.town import CHUNK, Home, Town, gguf, in_town

MODEL = gguf(8)

Offer = Callable[[Town, AsyncExitStack], Awaitable[str]]
"""Have the model somewhere whence nothing of it comes before the web goes on; returns the reference to it."""


async def at_a_peer(town: Town, life: AsyncExitStack) -> str:
    anna = await life.enter_async_context(town.home("anna"))
    anna.keep(MODEL)
    await anna.knows()
    read = anna.store.read

    async def read_later(*chunk: object) -> bytes:
        await town.web.goes_on.wait()
        return await read(*chunk)  # type: ignore[arg-type]

    anna.store.read = read_later  # type: ignore[method-assign, assignment]
    return "tiny"


async def in_a_gallery(town: Town, _: AsyncExitStack) -> str:
    town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
    return "home@tiny"


async def at_an_address(town: Town, _: AsyncExitStack) -> str:
    return town.web.offer(MODEL)


async def at_who_downloads_it(town: Town, life: AsyncExitStack) -> str:
    anna = await life.enter_async_context(town.home("anna"))
    reference = town.web.offer(MODEL)
    anna.order(reference)
    await anna.until(lambda: anna.store._growing)
    return reference


everywhere = pytest.mark.parametrize("offer", [at_a_peer, in_a_gallery, at_an_address, at_who_downloads_it])


def nothing_came(home: Home) -> bool:
    return home.left() == [] and dict(home.store._growing) == {}


@everywhere
def test_what_the_machine_cannot_hold_fails_before_it_comes(tmp_path: Path, offer: Offer) -> None:
    async def test(town: Town) -> None:
        town.web.stops_after = 0
        async with AsyncExitStack() as life:
            reference = await offer(town, life)
            ben = await life.enter_async_context(town.home("ben", memory_bytes=5 * CHUNK))
            job = await ben.pull(reference)
            assert (job.state, "tiny needs more than" in job.reason) == ("failed", True)
            assert nothing_came(ben)
            assert job.sources == {}

    in_town(tmp_path, test)


@everywhere
def test_what_models_may_not_take_here_comes_with_a_warning_that_comes_first(
    tmp_path: Path, offer: Offer
) -> None:
    async def test(town: Town) -> None:
        town.web.stops_after = 0
        async with AsyncExitStack() as life:
            reference = await offer(town, life)
            ben = await life.enter_async_context(town.home("ben"))
            ben.worker.budget_bytes = guess_memory(len(MODEL)).total - 1
            job = ben.order(reference)
            await ben.until(lambda: ben.jobs.get(job.id).warnings)  # type: ignore[union-attr]
            assert ben.chunks() == 0
            town.web.goes_on.set()
            done = await ben.jobs.wait_ended(job.id)
            assert done.state == "done"
            [warning] = [each for each in done.warnings if "memory" in each]
            assert "it takes about 0.06 GiB of memory, as far as its size tells" in warning
            assert "this node has 0.06 GiB for models (--memory)" in warning

    in_town(tmp_path, test)


@everywhere
def test_what_fits_comes_without_a_word(tmp_path: Path, offer: Offer) -> None:
    async def test(town: Town) -> None:
        async with AsyncExitStack() as life:
            town.web.goes_on.set()
            reference = await offer(town, life)
            ben = await life.enter_async_context(town.home("ben"))
            ben.worker.budget_bytes = guess_memory(len(MODEL)).total
            done = await ben.pull(reference)
            assert done.state == "done"
            assert [each for each in done.warnings if "memory" in each] == []

    in_town(tmp_path, test)


def test_parts_count_together_and_a_projector_does_not(tmp_path: Path) -> None:
    async def lack_of_memory(size_bytes: int) -> str:
        return "too much" if size_bytes > 10 else ""

    async def main() -> list[str]:
        warnings: list[str] = []
        weighing = Weighing(Catalog(tmp_path, memory_bytes=100), lack_of_memory, warnings.append)
        await weighing.add("big", {"model-00001-of-00003.gguf": 6, PROJECTOR: 50})
        assert warnings == []
        await weighing.add("big", {"model-00002-of-00003.gguf": 6})
        await weighing.add("big", {"model-00003-of-00003.gguf": 6})
        return warnings

    assert trio.run(main) == ["too much"]


def test_the_name_of_a_model_stays_free_that_was_too_large(tmp_path: Path) -> None:
    async def test(town: Town) -> None:
        async with town.home("ben", memory_bytes=5 * CHUNK) as ben:
            town.web.list_in_gallery("tiny", {"tiny.gguf": MODEL})
            assert (await ben.pull("home@tiny")).state == "failed"
            town.web.list_in_gallery("tiny", {"tiny.gguf": gguf(3)})
            assert (await ben.pull("home@tiny")).state == "done"
            assert ModelName("tiny") in ben.catalog.definitions

    in_town(tmp_path, test)
