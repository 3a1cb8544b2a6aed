"""The ledger's file: whole after everything, and clear about what is wrong with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ledger.entry import Entry, sign_entry
from ledger.errors import StoreFull, StoreTooNew, StoreUnusable
from ledger.store import open_store
from ledger.version import Version
from p2p.identity import Identity

ALICE = Identity(bytes([1]) * 32)


def write(key: str, counter: int, value: bytes = b"\x80") -> Entry:
    return sign_entry(ALICE, key, Version(1, counter), value)


def stored(path: Path) -> list[bytes]:
    with open_store(path) as store:
        return store.load()


def test_the_last_entry_of_each_place_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with open_store(path) as store:
        store.write([write("b", 1), write("a", 2)])
        store.write([write("a", 3)])
    assert stored(path) == [write("a", 3).encoded, write("b", 1).encoded]


@pytest.mark.parametrize("garbage", [b"not a database at all" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(garbage)
    with open_store(path) as store:
        assert store.load() == []
        store.write([write("a", 1)])
    assert (tmp_path / "ledger.sqlite.damaged").read_bytes() == garbage
    assert stored(path) == [write("a", 1).encoded]


def test_a_file_with_a_broken_page_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ledger.sqlite"
    with open_store(path) as store:
        store.write([write(f"{number}", number, bytes(500)) for number in range(200)])
    content = bytearray(path.read_bytes())
    content[8192:40960] = bytes(32768)
    path.write_bytes(content)
    assert stored(path) == []
    assert "damaged" in caplog.text
    assert stored(path) == [], "once is enough"
    assert len(caplog.records) == 1


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="newer version"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_damages_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with open_store(path) as store:
        store.write([write("a", 1)])
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFull, match="no room"):
            store.write([write(f"{number}", number + 2, bytes(4000)) for number in range(5)])
        store.write([write("a", 9)])
    assert stored(path) == [write("a", 9).encoded]


def test_a_place_that_cannot_hold_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="nowhere"):
        open_store(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_file_that_is_damaged_while_it_is_open_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with open_store(path) as store:
        store.write([write(f"{number}", number, bytes(500)) for number in range(200)])
    with open_store(path) as store:
        path.write_bytes(b"not a database at all" * 5000)
        with pytest.raises(StoreUnusable, match=r"ledger\.sqlite"):
            store.load()
