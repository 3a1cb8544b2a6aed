"""The ledger as other parts hold it: our own words, everybody's to read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ledger import ledger as ledger_module
from ledger.entry import SWARM, Author, Entry, Place, sign_entry
from ledger.errors import BadEntry, NotAnAdmin, OverQuota, StoreFull
from ledger.ledger import Ledger
from ledger.record_fields import encode_value
from ledger.records import ModelName, ModelRecord, NodeRecord, PlacementRecord
from ledger.replica import BOOT_KEY
from ledger.state import Applied, LedgerLimits, Refused
from ledger.store import read_ledger_file
from ledger.version import Version
from tests.ledger.people import author, open_ledger
from tests.mock_time import run

ME = author(9)
ALICE = author(1)
NODE = NodeRecord("attic", "worker", "0.1.0")
MODEL = ModelRecord(ModelName("m"), "cold")


def write(owner: Author, key: str, version: Version, value: dict[str, Any] | None) -> Entry:
    return sign_entry(owner, key, version, None if value is None else encode_value(value))


def own_entry(ledger: Ledger, key: str) -> Entry:
    entry = ledger.state.get(ledger.me, key)
    assert entry is not None
    return entry


def said(ledger: Ledger) -> list[str]:
    """The keys that hold, besides which process says so."""
    return [entry.key for entry in ledger.entries() if entry.key != BOOT_KEY]


def test_what_was_put_is_there_until_it_is_deleted() -> None:
    ledger = open_ledger(ME)
    ledger.put("a", {"x": 1})
    assert ledger.get(ledger.me, "a") == {"x": 1}
    assert said(ledger) == ["a"]
    ledger.delete("a")
    assert ledger.get(ledger.me, "a") is None
    assert said(ledger) == []


def test_saying_the_same_again_writes_nothing() -> None:
    ledger = open_ledger(ME)
    ledger.put("a", {"x": 1, "y": {"p": 1, "q": 2}})
    first = own_entry(ledger, "a")
    ledger.put("a", {"y": {"q": 2, "p": 1}, "x": 1})
    assert own_entry(ledger, "a") is first
    ledger.delete("a")
    deleted = own_entry(ledger, "a")
    ledger.delete("a")
    ledger.delete("never written")
    assert own_entry(ledger, "a") is deleted
    assert ledger.state.get(ledger.me, "never written") is None


def test_who_is_no_admin_is_told_so_whatever_holds_already() -> None:
    placed, other = PlacementRecord(ModelName("m"), replicas=2), PlacementRecord(ModelName("m"), replicas=3)
    admin, ledger = open_ledger(author(2, "admin")), open_ledger(ME)
    admin.put_shared(placed)
    [entry] = admin.state.entries_of(SWARM)
    ledger.receive(entry.encoded, admin.me)
    for record in (placed, other):
        with pytest.raises(NotAnAdmin):
            ledger.put_shared(record)
    for key in (entry.key, "placement/nobody-wanted-it"):
        with pytest.raises(NotAnAdmin):
            ledger.delete_shared(key)
    assert ledger.placement_records() == [placed]
    admin.put_shared(placed)
    assert list(admin.state.entries_of(SWARM)) == [entry], "the same again writes nothing"


def test_records_are_read_by_peer() -> None:
    ledger = open_ledger(ME)
    ledger.put_record(NODE)
    ledger.put_record(MODEL)
    ledger.put("later/kind", {"replicas": 2})
    assert ledger.node_record(ledger.me) == NODE
    assert ledger.model_records(ledger.me) == [MODEL]
    assert ledger.node_record(ALICE.peer) is None
    assert ledger.model_records(ALICE.peer) == []
    assert ledger.owners() == [ledger.me]


def test_a_record_that_cannot_be_read_is_counted_and_left_out() -> None:
    ledger = open_ledger(ME)
    ledger.receive(write(ALICE, "node", Version(1, 1), {"name": 7}).encoded, ALICE.peer)
    ledger.receive(sign_entry(ALICE, "model/a", Version(1, 2), b"\xc1").encoded, ALICE.peer)
    ledger.receive(write(ALICE, "model/b", Version(1, 3), {"state": "loaded"}).encoded, ALICE.peer)
    for _ in range(2):
        assert ledger.node_record(ALICE.peer) is None
        assert [record.name for record in ledger.model_records(ALICE.peer)] == ["b"]
    assert ledger.unreadable == 2
    assert ledger.get(ALICE.peer, "model/a") is None


def test_a_key_of_somebody_else_writes_no_lines_of_its_own_into_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ledger = open_ledger(ME)
    ledger.receive(write(ALICE, "model/a\nall is well", Version(1, 1), {}).encoded, ALICE.peer)
    assert ledger.model_records(ALICE.peer) == []
    (record,) = caplog.records
    assert "\n" not in record.getMessage()


def test_a_refused_entry_is_counted() -> None:
    ledger = open_ledger(ME)
    entry = write(ALICE, "a", Version(1, 1), {})
    assert ledger.receive(entry.encoded, ALICE.peer) == Applied(entry, None)
    assert ledger.receive(entry.encoded, ALICE.peer) == Refused("stale")
    assert ledger.receive(b"\x03" + entry.encoded[1:], ALICE.peer) == Refused("unknown_format")
    with pytest.raises(BadEntry):
        ledger.receive(entry.encoded[:-1], ALICE.peer)
    assert ledger.refusals == {"stale": 1, "unknown_format": 1}


def test_a_write_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    ledger = open_ledger(ME, limits=LedgerLimits(owner_entries_max=8))
    ledger.put("a", {})
    with pytest.raises(OverQuota, match="says too much"):
        ledger.put("b", {})
    with pytest.raises(OverQuota, match="too large"):
        ledger.put("a", {"x": bytes(20_000)})
    assert said(ledger) == ["a"]


def test_a_slow_subscriber_sees_every_place_and_the_last_word_only() -> None:
    async def main() -> None:
        ledger = open_ledger(ME)
        ledger.put("before", {})
        with ledger.subscribe() as changes:
            for number in range(1000):
                ledger.put("a", {"x": number})
            ledger.receive(write(ALICE, "b", Version(1, 1), {}).encoded, ALICE.peer)
            ledger.delete("a")
            assert [await anext(changes), await anext(changes)] == [
                Place(ledger.me, "a"),
                Place(ALICE.peer, "b"),
            ]
            with trio.move_on_after(1) as waiting:
                await anext(changes)
            assert waiting.cancelled_caught
            ledger.put("c", {})
            assert await anext(changes) == Place(ledger.me, "c")
        ledger.put("d", {})
        assert ledger._subscriptions == []

    run(main)


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    async def live_once(number: int) -> Version:
        ledger = open_ledger(ME, path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.run)
            ledger.put("a", {"x": number})
            await wait_all_tasks_blocked()
            ledger.put("b", {"x": number})
            nursery.cancel_scope.cancel()
        return own_entry(ledger, "b").version

    async def main() -> None:
        first = await live_once(1)
        reopened = open_ledger(ME, path)
        assert reopened.get(ME.peer, "a") == reopened.get(ME.peer, "b") == {"x": 1}
        reopened.close()
        assert await live_once(2) > first

    trio.run(main)


def test_entries_that_rotted_on_the_disk_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = open_ledger(ME, path)
        ledger.put("a", {"x": 1})
        ledger.put("b", {"x": 1})
        rotten = own_entry(ledger, "a")
        object.__setattr__(rotten, "encoded", rotten.encoded[:-1] + b"\0")
        with trio.move_on_after(0):
            await ledger.run()
        reopened = open_ledger(ME, path)
        assert said(reopened) == ["b"]
        reopened.close()

    with caplog.at_level(logging.WARNING):
        trio.run(main)
    assert "left out" in caplog.text


def limit_disk(ledger: Ledger, pages: int = 0) -> None:
    """Let its file have so many pages, or those it has and no more."""
    assert ledger._store is not None
    connection = ledger._store._connection
    (has,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(pages, has)}")


def test_a_full_disk_is_waited_for_and_nothing_is_lost_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_FULL_DISK_PAUSE", 0.01)
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = open_ledger(ME, path)
        limit_disk(ledger)
        ledger.put("a", {"x": bytes(15_000)})
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ledger.run)
                while not caplog.records:
                    await trio.lowlevel.checkpoint()
                ledger.put("b", {"x": 1})
                limit_disk(ledger, 1_000_000)
                while len(read_ledger_file(path).entries) < len(ledger.state.entries_of(ME.peer)):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        reopened = open_ledger(ME, path)
        assert said(reopened) == ["a", "b"]
        reopened.close()

    trio.run(main)
    assert "no room" in caplog.text


def test_a_disk_that_is_full_to_the_end_is_a_clear_error(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = open_ledger(ME, tmp_path / "ledger.sqlite")
        limit_disk(ledger)
        ledger.put("a", {"x": bytes(15_000)})
        with trio.move_on_after(0):
            await ledger.run()

    with pytest.raises(StoreFull):
        trio.run(main)
