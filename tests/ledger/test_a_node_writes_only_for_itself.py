"""The ledger as other parts hold it: our own words, everybody's to read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ledger.entry import Entry, Place, sign_entry
from ledger.errors import BadEntry, CopiedIdentity, OverQuota, StoreFull
from ledger.ledger import Ledger
from ledger.record_fields import encode_value
from ledger.records import ModelName, ModelRecord, NodeRecord
from ledger.state import Applied, LedgerLimits, Refused
from ledger.version import Version
from p2p.identity import Identity
from tests.mock_time import run

ME = Identity(bytes([9]) * 32)
ALICE = Identity(bytes([1]) * 32)
NODE = NodeRecord("attic", "worker", "0.1.0", "boot-1")
MODEL = ModelRecord(ModelName("m"), "cold")


def write(owner: Identity, key: str, version: Version, value: dict[str, Any] | None) -> Entry:
    return sign_entry(owner, key, version, None if value is None else encode_value(value))


def own_entry(ledger: Ledger, key: str) -> Entry:
    entry = ledger.state.get(ledger.me, key)
    assert entry is not None
    return entry


def test_what_was_put_is_there_until_it_is_deleted() -> None:
    ledger = Ledger.open(None, ME)
    ledger.put("a", {"x": 1})
    assert ledger.get(ledger.me, "a") == {"x": 1}
    assert [entry.key for entry in ledger.entries()] == ["a"]
    ledger.delete("a")
    assert ledger.get(ledger.me, "a") is None
    assert list(ledger.entries()) == []


def test_saying_the_same_again_writes_nothing() -> None:
    ledger = Ledger.open(None, ME)
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


def test_records_are_read_by_peer() -> None:
    ledger = Ledger.open(None, ME)
    ledger.put_record(NODE)
    ledger.put_record(MODEL)
    ledger.put("placement/later", {"replicas": 2})
    assert ledger.node_record(ledger.me) == NODE
    assert ledger.model_records(ledger.me) == [MODEL]
    assert ledger.node_record(ALICE.peer_id) is None
    assert ledger.model_records(ALICE.peer_id) == []
    assert ledger.owners() == [ledger.me]


def test_a_record_that_cannot_be_read_is_counted_and_left_out() -> None:
    ledger = Ledger.open(None, ME)
    ledger.receive(write(ALICE, "node", Version(1, 1), {"name": 7}).encoded)
    ledger.receive(sign_entry(ALICE, "model/a", Version(1, 2), b"\xc1").encoded)
    ledger.receive(write(ALICE, "model/b", Version(1, 3), {"state": "loaded"}).encoded)
    for _ in range(2):
        assert ledger.node_record(ALICE.peer_id) is None
        assert [record.name for record in ledger.model_records(ALICE.peer_id)] == ["b"]
    assert ledger.unreadable == 2
    assert ledger.get(ALICE.peer_id, "model/a") is None


def test_a_key_of_somebody_else_writes_no_lines_of_its_own_into_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ledger = Ledger.open(None, ME)
    ledger.receive(write(ALICE, "model/a\nall is well", Version(1, 1), {}).encoded)
    assert ledger.model_records(ALICE.peer_id) == []
    (record,) = caplog.records
    assert "\n" not in record.getMessage()


def test_a_refused_entry_is_counted() -> None:
    ledger = Ledger.open(None, ME)
    entry = write(ALICE, "a", Version(1, 1), {})
    assert ledger.receive(entry.encoded) == Applied(entry, None)
    assert ledger.receive(entry.encoded) == Refused("stale")
    assert ledger.receive(b"\x02" + entry.encoded[1:]) == Refused("unknown_format")
    with pytest.raises(BadEntry):
        ledger.receive(entry.encoded[:-1])
    assert ledger.refusals == {"stale": 1, "unknown_format": 1}


def test_a_write_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    ledger = Ledger.open(None, ME, LedgerLimits(owner_entries_max=1))
    ledger.put("a", {})
    with pytest.raises(OverQuota, match="over quota"):
        ledger.put("b", {})
    with pytest.raises(OverQuota, match="too large"):
        ledger.put("a", {"x": bytes(20_000)})
    assert [entry.key for entry in ledger.entries()] == ["a"]


def test_a_node_that_lost_its_disk_is_not_locked_out_by_its_own_past() -> None:
    past = [
        write(ME, "node", Version(3, 40), {"name": "old"}),
        write(ME, "model/gone", Version(3, 41), {"state": "loaded"}),
        write(ME, "model/deleted", Version(3, 42), None),
    ]
    ledger = Ledger.open(None, ME)
    ledger.put_record(NODE)
    for entry in past:
        ledger.receive(entry.encoded)
    assert ledger.node_record(ledger.me) == NODE
    assert ledger.model_records(ledger.me) == []
    assert all(own_entry(ledger, entry.key).rank >= entry.rank for entry in past)
    assert own_entry(ledger, "node").version.epoch == 4
    ledger.put("model/new", {"state": "cold"})
    assert own_entry(ledger, "model/new").version > past[-1].version


def test_a_rolled_back_disk_yields_to_no_twin_of_its_own_version() -> None:
    ledger = Ledger.open(None, ME)
    ledger.put("node", {"name": "now"})
    twins = [write(ME, "node", own_entry(ledger, "node").version, {"name": f"lost {n}"}) for n in range(8)]
    for twin in twins:
        ledger.receive(twin.encoded)
    assert ledger.get(ledger.me, "node") == {"name": "now"}


def test_both_copies_of_a_home_notice_and_stop() -> None:
    async def main() -> None:
        ours, copy = Ledger.open(None, ME), Ledger.open(None, ME)
        ours.put_record(NODE)
        copy.put_record(NodeRecord("cellar", "worker", "0.1.0", "boot-2"))
        for _ in range(20):
            copy.receive(own_entry(ours, "node").encoded)
            ours.receive(own_entry(copy, "node").encoded)
        for ledger in (ours, copy):
            with trio.fail_after(1), pytest.raises(CopiedIdentity, match=ME.peer_id):
                await ledger.run()

    run(main)


def test_a_slow_subscriber_sees_every_place_and_the_last_word_only() -> None:
    async def main() -> None:
        ledger = Ledger.open(None, ME)
        ledger.put("before", {})
        with ledger.subscribe() as changes:
            for number in range(1000):
                ledger.put("a", {"x": number})
            ledger.receive(write(ALICE, "b", Version(1, 1), {}).encoded)
            ledger.delete("a")
            assert [await anext(changes), await anext(changes)] == [
                Place(ledger.me, "a"),
                Place(ALICE.peer_id, "b"),
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
        ledger = Ledger.open(path, ME)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.run)
            ledger.put("a", {"x": number})
            await wait_all_tasks_blocked()
            ledger.put("b", {"x": number})
            nursery.cancel_scope.cancel()
        return own_entry(ledger, "b").version

    async def main() -> None:
        first = await live_once(1)
        reopened = Ledger.open(path, ME)
        assert reopened.get(ME.peer_id, "a") == reopened.get(ME.peer_id, "b") == {"x": 1}
        reopened.close()
        assert await live_once(2) > first

    trio.run(main)


def test_entries_that_rotted_on_the_disk_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"

    async def main() -> None:
        ledger = Ledger.open(path, ME)
        ledger.put("a", {"x": 1})
        ledger.put("b", {"x": 1})
        rotten = own_entry(ledger, "a")
        object.__setattr__(rotten, "encoded", rotten.encoded[:-1] + b"\0")
        with trio.move_on_after(0):
            await ledger.run()
        reopened = Ledger.open(path, ME)
        assert [entry.key for entry in reopened.entries()] == ["b"]
        reopened.close()

    with caplog.at_level(logging.WARNING):
        trio.run(main)
    assert "left out" in caplog.text


def test_a_full_disk_ends_the_keeper_with_a_clear_error(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = Ledger.open(tmp_path / "ledger.sqlite", ME)
        assert ledger._store is not None
        connection = ledger._store._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        ledger.put("a", {"x": bytes(15_000)})
        with trio.fail_after(10), pytest.raises(StoreFull):
            await ledger.run()

    trio.run(main)
