"""Entries to store, and files of former versions, for tests of the ledger's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from ledger.entry import Author, Entry, sign_entry
from ledger.store import LogRow, LogWhat, open_store
from ledger.version import Version
from tests.p2p.people import ALICE, invite

AUTHOR = Author(ALICE, invite().credential_for(ALICE.peer_id))

SQL_OF_VERSION_1 = """
    CREATE TABLE entries (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        encoded BLOB NOT NULL,
        PRIMARY KEY (owner, key)
    ) WITHOUT ROWID
"""
"""As the first release had it: never to be changed."""

IN_FORMAT_1 = (
    b"\x01" + ALICE.public_key + bytes(7) + b"\1" + bytes(7) + b"\7" + b"\0\0\4\0\0\0\1node\x80" + bytes(64)
)
"""An entry as the first release signed them, without a credential."""


def entry(key: str, counter: int, value: bytes | None = b"\x80", author: Author = AUTHOR) -> Entry:
    return sign_entry(author, key, Version(1, counter), value)


def row(counter: int, what: LogWhat = "wrote", key: str = "node", reason: str = "") -> LogRow:
    return LogRow(float(counter), what, ALICE.peer_id, key, 1, counter, source="", reason=reason)


def stored(path: Path) -> list[bytes]:
    """What a node that opens `path` finds."""
    with open_store(path) as store:
        return store.load()


def make_version_1(path: Path, rows: Iterable[tuple[str, str, bytes]]) -> None:
    """A file as the first release left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(SQL_OF_VERSION_1)
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
        connection.execute("PRAGMA user_version = 1")


def rows_of(entries: Iterable[Entry]) -> list[tuple[str, str, bytes]]:
    return [(each.owner, each.key, each.encoded) for each in entries]
