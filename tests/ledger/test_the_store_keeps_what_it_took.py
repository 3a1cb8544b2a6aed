"""The ledger's file: whole after everything, and clear about what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import ledger.store
from ledger.entry import Place
from ledger.errors import StoreFull, StoreTooNew, StoreUnusable
from ledger.store import LedgerFile, LogRow, open_store, read_ledger_file
from tests.ledger.stored_entries import entry, row, stored
from tests.p2p.people import ALICE

NOBODY = 65534
"""A user without rights of its own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_the_last_entry_of_each_place_is_there_after_reopening(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("b", 1), entry("a", 2)], [], [])
        store.write([entry("a", 3)], [], [])
    assert stored(path) == [entry("a", 3).encoded, entry("b", 1).encoded]


def test_what_was_dropped_is_gone(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("b", 1), entry("a", 2)], [], [])
        store.write([entry("c", 3)], [Place(ALICE.peer_id, "b"), Place(ALICE.peer_id, "never there")], [])
    assert stored(path) == [entry("a", 2).encoded, entry("c", 3).encoded]


def test_what_was_dropped_and_written_again_is_kept(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
        store.write([entry("a", 2)], [Place(ALICE.peer_id, "a")], [])
    assert stored(path) == [entry("a", 2).encoded]


def test_a_write_that_fails_leaves_nothing_of_itself(path: Path) -> None:
    broken = LogRow("never", "took", ALICE.peer_id, "a", 1, 1, "", "")  # type: ignore[arg-type]
    unbindable = LogRow(0.0, "took", ALICE.peer_id, "a", 1, 2**70, "", "")
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
        with pytest.raises(OverflowError):
            store.write([entry("b", 2)], [Place(ALICE.peer_id, "a")], [broken, unbindable])
        assert store.load() == [entry("a", 1).encoded]
        store.write([entry("c", 3)], [], [row(3)])
    assert stored(path) == [entry("a", 1).encoded, entry("c", 3).encoded]
    assert read_ledger_file(path).log == [row(3)]


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for open_it in (open_store, read_ledger_file):
        with pytest.raises(StoreTooNew, match="newer version"):
            open_it(path)
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_damages_nothing(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFull, match="no room"):
            store.write(
                [entry(f"{number}", number + 2, bytes(4000)) for number in range(5)],
                [Place(ALICE.peer_id, "a")],
                [row(2)],
            )
        assert store.load() == [entry("a", 1).encoded]
        store.write([entry("a", 9)], [], [])
    assert stored(path) == [entry("a", 9).encoded]


def test_a_place_that_cannot_hold_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="nowhere"):
        open_store(tmp_path / "nowhere" / "ledger.sqlite")
    with pytest.raises(StoreUnusable, match="cannot be"):
        open_store(tmp_path)


@contextmanager
def without_rights() -> Iterator[None]:
    """Whoever runs the tests, root too, is somebody who owns nothing for a moment."""
    if not hasattr(os, "seteuid"):
        pytest.skip("rights are another matter here")
    former = os.geteuid()
    if former == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(former)


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """One that everybody may enter: pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


def test_a_file_that_may_not_be_written_is_said_with_what_to_do(readable_folder: Path) -> None:
    path = readable_folder / "ledger.sqlite"
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
    path.chmod(0o444)
    readable_folder.chmod(0o555)
    with without_rights(), pytest.raises(StoreUnusable, match=r"ledger\.sqlite .*let this user .*write it"):
        open_store(path)
    readable_folder.chmod(0o755)
    assert stored(path) == [entry("a", 1).encoded]


def test_a_folder_that_may_not_be_written_can_be_inspected(readable_folder: Path) -> None:
    path = readable_folder / "ledger.sqlite"
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
    readable_folder.chmod(0o555)
    with without_rights():
        assert read_ledger_file(path).entries == [entry("a", 1).encoded]


def test_a_file_that_somebody_holds_is_said_and_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.store._BUSY_TIMEOUT", 0.0)
    with open_store(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnusable, match="close the program that holds it"):
            store.write([entry("a", 1)], [], [])
        other.execute("ROLLBACK")
        store.write([entry("a", 1)], [], [])
    assert stored(path) == [entry("a", 1).encoded]


def test_the_file_can_be_read_while_a_node_writes_to_it(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [row(1)])
        file = read_ledger_file(path)
        assert (file.entries, file.log) == ([entry("a", 1).encoded], [row(1)])
        store.write([entry("a", 2)], [], [row(2)])
        assert read_ledger_file(path).entries == [entry("a", 2).encoded]


def test_reading_leaves_nothing_behind(path: Path) -> None:
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
    before = path.read_bytes()
    assert read_ledger_file(path).entries == [entry("a", 1).encoded]
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_file_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no ledger"):
        read_ledger_file(path)
    assert not path.exists()


def test_an_empty_file_is_an_empty_ledger(path: Path) -> None:
    path.touch()
    assert read_ledger_file(path).entries == []
    assert stored(path) == []


def test_a_node_that_starts_while_the_file_is_read_confuses_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(path) as store:
        store.write([entry("a", 1)], [], [])
    read, ways = ledger.store._read, []

    def read_late(path: Path, how: str, log_limit: int) -> LedgerFile:
        ways.append(how)
        file = read(path, how, log_limit)
        if len(ways) == 1:
            with open_store(path) as store:
                store.write([entry("a", 2)], [], [])
        return file

    monkeypatch.setattr(ledger.store, "_read", read_late)
    assert read_ledger_file(path).entries == [entry("a", 2).encoded]
    assert ways == ["immutable=1", "mode=ro"]
