"""A node's own entries say what is true of it now, and nothing is written twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from ledger.records import ModelName, ModelRecord, Presence
from node.publisher import Publisher
from tests.ledger.people import author, open_ledger

ME = author(1)
TINY = ModelRecord(ModelName("tiny"), "loading")
LARGE = ModelRecord(ModelName("large"), "loaded", slots=2)


class World:
    """A publisher, and what it is to tell."""

    def __init__(self) -> None:
        self.ledger = open_ledger(ME)
        self.addresses = ["/ip4/10.0.0.1/tcp/4747"]
        self.models: list[ModelRecord] = [TINY]
        self.publisher = Publisher(
            self.ledger,
            name="desktop",
            role="worker",
            version="1.2",
            hardware={"cores": 8},
            addresses=lambda: self.addresses,
            models=lambda: self.models,
            labels=("gpu",),
            weight=2.0,
        )

    def written(self) -> list[bytes]:
        """Every entry of ours, deletions too."""
        return [entry.encoded for entry in self.ledger.state.entries_of(ME.peer)]

    def names(self) -> list[str]:
        return [record.name for record in self.ledger.model_records(ME.peer)]

    def presence(self) -> Presence:
        record = self.ledger.node_record(ME.peer)
        assert record is not None
        return record.presence


@pytest.fixture
def world() -> World:
    return World()


def test_a_node_says_who_and_where_it_is_and_what_it_serves(world: World) -> None:
    world.publisher.publish()
    record = world.ledger.node_record(ME.peer)
    assert record is not None
    assert (record.name, record.role, record.presence, record.hardware) == (
        "desktop",
        "worker",
        "here",
        {"cores": 8},
    )
    assert record.addresses == ("/ip4/10.0.0.1/tcp/4747",)
    assert (record.labels, record.weight) == (("gpu",), 2.0)
    assert world.ledger.model_records(ME.peer) == [TINY]


def test_saying_the_same_again_writes_nothing(world: World) -> None:
    world.publisher.publish()
    before = world.written()
    world.publisher.publish()
    assert world.written() == before


def test_only_what_changed_is_written(world: World) -> None:
    world.models = [TINY, LARGE]
    world.publisher.publish()
    before = world.written()
    world.models = [ModelRecord(TINY.name, "loaded"), LARGE]
    world.publisher.publish()
    assert len(set(world.written()) - set(before)) == 1


def test_a_model_that_is_gone_is_taken_back(world: World) -> None:
    world.models = [TINY, LARGE]
    world.publisher.publish()
    world.models = [LARGE]
    world.publisher.publish()
    assert world.names() == ["large"]


def test_what_a_crashed_run_left_is_taken_back(world: World) -> None:
    world.ledger.put_record(ModelRecord(ModelName("of yesterday"), "loaded"))
    world.publisher.publish()
    assert world.names() == ["tiny"]


def test_presence_is_told_at_once_and_stays(world: World) -> None:
    for presence in ("draining", "away"):
        world.publisher.set_presence(presence)
        assert world.presence() == presence
        world.publisher.publish()
        assert world.presence() == presence


def test_a_record_that_does_not_fit_keeps_no_other_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.models = [ModelRecord(ModelName("broken"), "failed", reason="x" * 100_000), TINY]
    world.publisher.publish()
    assert world.names() == ["tiny"]
    assert "model/broken" in caplog.text


def test_a_change_is_told_without_waiting(world: World) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.publisher.run)
            await trio.testing.wait_all_tasks_blocked()
            world.models = [LARGE]
            world.publisher.note_change()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    # A clock that stands still: whatever waited would never come.
    trio.run(main, clock=trio.testing.MockClock())
    assert world.names() == ["large"]


def test_new_addresses_are_found_without_being_told(world: World) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.publisher.run)
            await trio.testing.wait_all_tasks_blocked()
            world.addresses = ["/ip4/10.0.0.2/tcp/4747"]
            await trio.sleep(60)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    record = world.ledger.node_record(ME.peer)
    assert record is not None
    assert record.addresses == ("/ip4/10.0.0.2/tcp/4747",)


def test_what_does_not_fit_is_complained_of_once_and_the_rest_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.models = [replace(TINY, extra={"much": "x" * 100_000}), LARGE]
    for _ in range(3):
        world.publisher.publish()
    assert world.names() == ["large"]
    assert len(caplog.records) == 1
    world.models = [TINY]
    world.publisher.publish()
    world.models = [replace(TINY, extra={"much": "x" * 100_000})]
    world.publisher.publish()
    assert len(caplog.records) == 2, "it fitted meanwhile"
