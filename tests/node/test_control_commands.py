"""A model that is taken away is gone as a whole, or there as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from ledger.records import ModelName, ModelRecord
from node.control_commands import ControlCommands
from node.control_server import Handler
from node.install.model_notes import ModelNotes
from node.install.shelf import Shelf
from node.models.catalog import Catalog
from node.models.errors import CannotStoreModel, UnknownModel
from node.parts import Parts
from node.worker import Worker
from p2p.network import Network

TINY = "tiny"


class FakeWorker:
    """Serves models until they are removed, which takes as long as answers run."""

    def __init__(self) -> None:
        self.served = {TINY}
        self.answers_ended = trio.Event()

    def add_model(self, definition: SimpleNamespace) -> None:
        self.served.add(definition.name)

    async def remove_model(self, name: ModelName) -> None:
        if name not in self.served:
            raise UnknownModel(f"this node has no model {name}")
        self.served.discard(name)
        try:
            await self.answers_ended.wait()
        except trio.Cancelled:
            self.served.add(str(name))
            raise

    def model_records(self) -> list[ModelRecord]:
        return [ModelRecord(ModelName(name), "cold") for name in self.served]


class FakeCatalog:
    """Knows models until they are removed, unless a file cannot be deleted."""

    def __init__(self) -> None:
        self.known = {TINY}
        self.is_stuck = False

    @property
    def definitions(self) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(name=name) for name in self.known}

    def name_of(self, source: str) -> str:
        return source

    def add(self, source: str, *, copy: bool) -> SimpleNamespace:
        self.known.add(source)
        return SimpleNamespace(name=source)

    def remove(self, name: ModelName) -> list[Path]:
        if self.is_stuck:
            raise CannotStoreModel("the file is in use")
        if name not in self.known:
            raise UnknownModel(f"this node has no model {name}")
        self.known.discard(name)
        return []


Test = Callable[[dict[str, Handler], FakeWorker, FakeCatalog], Awaitable[None]]


def run(test: Test) -> None:
    async def main() -> None:
        worker, catalog = FakeWorker(), FakeCatalog()
        shelf = Shelf(cast("Catalog", catalog), cast("Worker", worker), ModelNotes(Path("/nowhere")))
        placer = SimpleNamespace(would_come_back=lambda name: False)
        parts = cast("Parts", SimpleNamespace(models=SimpleNamespace(shelf=shelf, placer=placer)))
        commands = ControlCommands(parts, cast("Network", None), "", leave)
        with trio.fail_after(30):
            await test(commands.handlers(), worker, catalog)

    async def leave(_: float) -> None:
        raise AssertionError

    trio.run(main)


def test_a_removal_that_got_as_far_as_the_file_is_not_interrupted() -> None:
    async def test(handlers: dict[str, Handler], worker: FakeWorker, catalog: FakeCatalog) -> None:
        with trio.CancelScope() as node:

            async def end_node() -> None:
                await trio.testing.wait_all_tasks_blocked()
                # In the same moment: the engine is gone, and so shall be the node.
                worker.answers_ended.set()
                node.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_node)
                await handlers["models.rm"]({"name": TINY})
        assert (worker.served, catalog.known) == (set(), set())

    run(test)


def test_a_removal_that_never_got_there_leaves_the_model_served() -> None:
    async def test(handlers: dict[str, Handler], worker: FakeWorker, catalog: FakeCatalog) -> None:
        with trio.move_on_after(0.01):
            await handlers["models.rm"]({"name": TINY})
        assert (worker.served, catalog.known) == ({TINY}, {TINY})

    run(test)


def test_a_file_that_could_not_be_deleted_can_be_removed_later() -> None:
    async def test(handlers: dict[str, Handler], worker: FakeWorker, catalog: FakeCatalog) -> None:
        worker.answers_ended.set()
        catalog.is_stuck = True
        with pytest.raises(CannotStoreModel):
            await handlers["models.rm"]({"name": TINY})
        catalog.is_stuck = False
        await handlers["models.rm"]({"name": TINY})
        assert catalog.known == set()
        with pytest.raises(UnknownModel):
            await handlers["models.rm"]({"name": TINY})

    run(test)


def test_what_is_added_while_it_is_being_removed_is_there_afterwards() -> None:
    async def test(handlers: dict[str, Handler], worker: FakeWorker, catalog: FakeCatalog) -> None:
        arguments: dict[str, Any] = {"source": TINY, "copy": False}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handlers["models.rm"], {"name": TINY})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(handlers["models.add"], arguments)
            await trio.testing.wait_all_tasks_blocked()
            worker.answers_ended.set()
        assert (worker.served, catalog.known) == ({TINY}, {TINY})

    run(test)
