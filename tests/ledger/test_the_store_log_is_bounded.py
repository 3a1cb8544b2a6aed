"""The log in the ledger's file: newest first, and never large."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import ledger.store_log
from ledger.store import LogRow, open_store, read_ledger_file
from tests.ledger.stored_entries import row
from tests.p2p.people import ALICE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_the_newest_rows_come_first(path: Path) -> None:
    with open_store(path) as store:
        store.write([], [], [row(1), row(2, "took")])
        store.write([], [], [row(3, "refused", reason="bad_signature")])
    rows = [row(3, "refused", reason="bad_signature"), row(2, "took"), row(1)]
    assert read_ledger_file(path).log == rows
    assert read_ledger_file(path, log_limit=2).log == rows[:2]
    assert read_ledger_file(path, log_limit=0).log == []


def test_the_oldest_rows_go_many_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.store_log, "LOG_ROWS_MAX", 10)
    monkeypatch.setattr(ledger.store_log, "_TRIM_EVERY", 5)
    held = []
    with open_store(path) as store:
        for counter in range(1, 41):
            store.write([], [], [row(counter)])
            (count,) = store._connection.execute("SELECT count(*) FROM log").fetchone()
            held.append(count)
    assert max(held) == 15
    assert sum(later < earlier for earlier, later in pairwise(held)) == 5
    assert [each.counter for each in read_ledger_file(path).log] == list(range(40, 30, -1))


def test_of_a_flood_only_the_newest_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.store_log, "LOG_ROWS_MAX", 10)
    with open_store(path) as store:
        store.write([], [], [row(counter) for counter in range(1, 1001)])
        (count,) = store._connection.execute("SELECT count(*) FROM log").fetchone()
    assert count == 10
    assert read_ledger_file(path).log[0] == row(1000)


def test_a_key_of_any_length_takes_little_room(path: Path) -> None:
    with open_store(path) as store:
        store.write([], [], [row(1, "refused", key="k" * 65_535, reason="too_large")])
    (only,) = read_ledger_file(path).log
    assert only.key == "k" * 197 + "..."


@pytest.mark.parametrize("number", [0, 2**53, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_version_as_large_as_one_can_lie_is_kept(path: Path, number: int) -> None:
    said = LogRow(0.5, "refused", ALICE.peer_id, "a\0\x1b\U0001f600", number, number, "peer", "too_far_ahead")
    with open_store(path) as store:
        store.write([], [], [said])
    assert read_ledger_file(path).log == [said]


def test_rows_that_make_no_sense_are_left_out(path: Path) -> None:
    with open_store(path) as store:
        store.write([], [], [row(1), row(2), row(3)])
        execute = store._connection.execute
        execute("UPDATE log SET what = 'tok' WHERE sequence = 1")
        execute("UPDATE log SET key = CAST(X'ff00' AS TEXT), epoch = 'x' WHERE sequence = 2")
    assert [(each.counter, each.key, each.epoch) for each in read_ledger_file(path).log] == [
        (3, "node", 1),
        (2, "�\0", 0),
    ]
