"""The ledger's file: the entries we hold, in SQLite.

    entries(owner, key, encoded)      one row per place; `encoded` as it travels

Our own version needs no row of its own: it is the largest of our own entries, and
deletions stay. Whatever is lost with the file comes back from the peers, and
what we wrote and had not stored yet is met again as unremembered (`ledger.py`).

Every call blocks on the disk, for a long time when it is a slow one: call `write`
from a thread. One thread at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ledger.entry import Entry
from ledger.errors import StoreFull, StoreTooNew, StoreUnusable

logger = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = """
    CREATE TABLE entries (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        encoded BLOB NOT NULL,
        PRIMARY KEY (owner, key)
    ) WITHOUT ROWID
"""

_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_BUSY_TIMEOUT = 5.0
"""Seconds we wait for somebody who inspects the file. A node writes alone: the home's lock sees to it."""


class _Damaged(StoreUnusable):
    """The file is not, or no longer, a database."""


class Store:
    """An open file. Made by `open_store`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def load(self) -> list[bytes]:
        """All entries as they travel.

        Raises:
          StoreUnusable: the file cannot be read.
        """
        with _errors_mapped(self._path):
            rows = self._connection.execute("SELECT encoded FROM entries ORDER BY owner, key")
            return [encoded for (encoded,) in rows]

    def write(self, entries: Iterable[Entry]) -> None:
        """Keep `entries` instead of what stood in their places: all of them, or after an error none.

        Once this returns they outlive our process, however it ends. A power cut may undo the last
        writes and nothing else: syncing each would cost a disk's seek, and our peers have them.

        Raises:
          StoreFull: no room on the disk.
          StoreUnusable: the file cannot be written.
        """
        rows = [(entry.owner, entry.key, entry.encoded) for entry in entries]
        with _errors_mapped(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("REPLACE INTO entries VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file. Harmless a second time."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_store(path: Path) -> Store:
    """The store in `path`, made if there is none. A damaged file is moved aside and started anew.

    Raises:
      StoreTooNew: a newer version of the program wrote it.
      StoreFull, StoreUnusable: as their names say.
    """
    try:
        return Store(path, _connect(path))
    except _Damaged as error:
        aside = _move_aside(path)
        logger.warning("%s: moved to %s, peers refill it", error, aside)
        return Store(path, _connect(path))


def _connect(path: Path) -> sqlite3.Connection:
    with _errors_mapped(path):
        connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # WAL and NORMAL: a commit is safe against our own death without waiting for the disk.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise _Damaged(f"{path} is damaged: {finding}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        raise StoreTooNew(f"{path} was written by a newer version (schema {version}): update this node")
    if version == 0:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _move_aside(path: Path) -> Path:
    """Rename the database and its journal. What was moved aside before goes: one is enough to look into."""
    aside = path.with_name(f"{path.name}.damaged")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        try:
            part.replace(aside.with_name(aside.name + suffix))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreUnusable(f"{part} is damaged and cannot be moved aside: {error}") from error
    return aside


@contextmanager
def _errors_mapped(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, so that they say what a person can do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code
        if code == sqlite3.SQLITE_FULL:
            raise StoreFull(f"no room on the disk for {path}; nothing was damaged") from error
        if code in _DAMAGE_CODES:
            raise _Damaged(f"{path} is damaged: {error}") from error
        raise StoreUnusable(f"{path} cannot be used: {error}") from error
