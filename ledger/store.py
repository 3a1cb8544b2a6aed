"""The ledger's file: the entries we hold and a log of what happened, in SQLite.

Our own version needs no row of its own: it is the largest of our own entries, and
what deleted something stays. Whatever is lost with the file comes back from the peers, and
what we wrote and had not stored yet is met again as unremembered (`replica.py`).

So a file that is damaged is moved aside and begun anew, at the start or in the middle of a
run, with one line in the log; it never keeps a node from going on. What only a person can
mend, a full disk or a file that may not be written, raises.

What is stored is not judged here: entries come back as they are, one that was damaged, or
is of an older version's format, included, and the ledger refuses what proves nothing.

Every call blocks on the disk, for a long time when it is a slow one: call `write`
from a thread. One thread at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

from ledger.entry import Entry, Place
from ledger.errors import StoreUnusable
from ledger.store_log import LOG_ROWS_MAX, LogRow, LogWhat, append, newest_first
from ledger.store_schema import SCHEMA_VERSION, Damaged, errors_mapped, migrate, require_header, require_whole
from p2p.peer import PeerId

__all__ = ["LedgerFile", "LogRow", "LogWhat", "Store", "open_store", "read_ledger_file"]

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT = 5.0
"""Seconds we wait for somebody who inspects the file. A node writes alone: the home's lock sees to it."""

_JOURNAL_SIZE_MAX = 8 * 1024 * 1024
"""Bytes that SQLite's journal keeps on the disk when a burst is over: twice what it grows to by itself."""

_Row: TypeAlias = tuple[PeerId, str, bytes]

_ALL_ENTRIES = "SELECT CAST(encoded AS BLOB) FROM entries ORDER BY owner, key"
"""The cast: a flipped bit can make a text of it, which would be no text in UTF-8."""


class Store:
    """An open file. Made by `open_store`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._has_begun_anew = False
        """Since the last write that succeeded."""

    def load(self) -> list[bytes]:
        """All entries as they travel; none if the file turns out to be damaged.

        Raises:
          StoreUnusable: the file cannot be read.
        """
        try:
            with errors_mapped(self._path):
                return _entries(self._connection)
        except Damaged as error:
            self._begin_anew(error)
            return []

    def write(self, kept: Iterable[Entry], dropped: Iterable[Place], log: Iterable[LogRow]) -> bool:
        """Keep `kept` instead of what stood in their places, forget `dropped`, and note `log`, oldest
        first: all of it, or after an error nothing. What is in both is kept.

        Once this returns it outlives our process, however that ends. A power cut may undo the last
        writes and nothing else: syncing each would cost a disk's seek, and our peers have them.

        Returns whether the file was lost and begun anew: whoever holds all entries can write them again. If
        nobody does, the peers refill it after the next start.

        Raises:
          StoreFull: no room on the disk.
          StoreUnusable: the file cannot be written.
        """
        entries: list[_Row] = [(entry.owner, entry.key, entry.encoded) for entry in kept]
        places, rows = list(dropped), list(log)
        try:
            self._write(entries, places, rows)
        except Damaged as error:
            self._begin_anew(error)
            self._write(entries, places, rows)
        has_begun_anew, self._has_begun_anew = self._has_begun_anew, False
        return has_begun_anew

    def close(self) -> None:
        """Close the file. Harmless a second time."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _write(self, entries: list[_Row], places: list[Place], rows: list[LogRow]) -> None:
        with errors_mapped(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("DELETE FROM entries WHERE owner = ? AND key = ?", places)
            self._connection.executemany("REPLACE INTO entries VALUES (?, ?, ?)", entries)
            append(self._connection, rows)

    def _begin_anew(self, error: Damaged) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        self._connection = _replace_damaged(self._path, error)
        self._has_begun_anew = True


def open_store(path: Path) -> Store:
    """The store in `path`, made if there is none. A damaged file is moved aside and begun anew.

    Raises:
      StoreTooNew: a newer version of the program wrote it.
      StoreFull, StoreUnusable: as their names say.
    """
    try:
        return Store(path, _connect(path))
    except Damaged as error:
        return Store(path, _replace_damaged(path, error))


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """What a file held when it was read."""

    schema_version: int
    entries: list[bytes]
    """As they travel, not proved."""
    log: list[LogRow]
    """Newest first."""


def read_ledger_file(path: Path, log_limit: int = LOG_ROWS_MAX) -> LedgerFile:
    """What is in the file at `path`, with the newest `log_limit` rows of its log.

    Changes nothing, and makes no file beside it. A node may be writing to it: what it has
    committed is seen, all of it as of one moment.

    Raises:
      StoreTooNew: a newer version of the program wrote it.
      StoreUnusable: it is not there, cannot be read, or is damaged.
    """
    if not path.is_file():
        raise StoreUnusable(f"there is no ledger at {path}")
    before = _state(path)
    if before.is_idle:
        # SQLite need not leave a journal of its own beside it then, or be able to. Unless a node started
        # this very moment, and the file changed under our eyes: then we look again, as below.
        try:
            file = _read(path, "immutable=1", log_limit)
        except Damaged:
            if _state(path) == before:
                raise
        else:
            if _state(path) == before:
                return file
    return _read(path, "mode=ro", log_limit)


class _FileState(NamedTuple):
    """What changes when somebody opens the file or writes to it."""

    is_idle: bool
    """Nobody has it open, and nobody died with it open."""
    size_bytes: int
    modified_ns: int


def _state(path: Path) -> _FileState:
    stat = path.stat()
    return _FileState(not _beside(path, "-wal").exists(), stat.st_size, stat.st_mtime_ns)


def _read(path: Path, how: str, log_limit: int) -> LedgerFile:
    uri = f"{path.absolute().as_uri()}?{how}"
    with (
        errors_mapped(path, is_opening=True),
        closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)) as connection,
    ):
        connection.text_factory = _text
        connection.execute("BEGIN")
        version = require_whole(connection, path)
        entries = _entries(connection) if version >= 1 else []
        log = newest_first(connection, log_limit) if version >= 2 else []
        return LedgerFile(version, entries, log)


def _connect(path: Path) -> sqlite3.Connection:
    with errors_mapped(path, is_opening=True):
        require_header(path)
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
    connection.text_factory = _text
    # Before anything is changed, so that what is damaged, or a newer version's, is left as it was found.
    version = require_whole(connection, path)
    # WAL and NORMAL: a commit is safe against our own death without waiting for the disk.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE_MAX}")
    if version < SCHEMA_VERSION:
        migrate(connection, version)


def _entries(connection: sqlite3.Connection) -> list[bytes]:
    return [encoded or b"" for (encoded,) in connection.execute(_ALL_ENTRIES)]


def _text(data: bytes) -> str:
    """Text of a column. A flipped bit in it is no reason to give up the rest."""
    return data.decode(errors="replace")


def _replace_damaged(path: Path, error: Damaged) -> sqlite3.Connection:
    aside = _move_aside(path)
    connection = _connect(path)
    logger.warning("%s: it was moved to %s and begun anew, the peers refill it", error, aside)
    return connection


def _move_aside(path: Path) -> Path:
    """Rename the database and its journal. What was moved aside before goes: one is enough to look into."""
    aside = _beside(path, ".damaged")
    # The journal first: were it left behind by a crash, SQLite would play it into the next database.
    for suffix in ("-wal", "-shm", "-journal", ""):
        part = _beside(path, suffix)
        try:
            _beside(aside, suffix).unlink(missing_ok=True)
            part.replace(_beside(aside, suffix))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreUnusable(
                f"{part} is damaged and cannot be moved aside ({error.strerror}); delete it"
            ) from error
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
