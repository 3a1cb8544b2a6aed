"""The tables of the ledger's file, and what tells that a file is not as we left it.

    version 1   entries(owner, key, encoded)     one row per place; `encoded` as it travels
    version 2   and log(sequence, ...)           what came in, what did not, and why

A file that does not prove to be a whole one of ours is `Damaged`, never half used: SQLite
checks its pages, and we its tables, letter by letter. The bytes of an entry are proved by
their signature, later, so a bit that flipped inside one costs that entry alone.

The next version adds a step to `_STEPS`; all steps a file lacks are taken in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.errors import StoreFull, StoreTooNew, StoreUnusable

_STEPS = (
    """
    CREATE TABLE entries (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        encoded BLOB NOT NULL,
        PRIMARY KEY (owner, key)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE log (
        sequence INTEGER PRIMARY KEY,
        unix_time REAL NOT NULL,
        what TEXT NOT NULL,
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        counter INTEGER NOT NULL,
        source TEXT NOT NULL,
        reason TEXT NOT NULL
    )
    """,
)
"""What each version adds to the one before."""

SCHEMA_VERSION = len(_STEPS)

_PLAUSIBLE_VERSION_MAX = 255
"""No program changes its tables that often. A larger number is a flipped bit, not a newer program."""

_HEADER_SIZE = 100
_JOURNAL_VERSIONS = {1, 2}
"""What SQLite 3 writes at bytes 18 and 19. It takes others for a file that may only be read, and would
say that of a damaged one."""

_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ADVICE = {
    sqlite3.SQLITE_READONLY: "let this user write it and its folder",
    sqlite3.SQLITE_PERM: "let this user write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "let this user read and write it and its folder",
    sqlite3.SQLITE_BUSY: "close the program that holds it",
    sqlite3.SQLITE_LOCKED: "close the program that holds it",
    sqlite3.SQLITE_IOERR: "the disk, or the network it is on, failed",
}
"""What a person can do, by SQLite's result code."""


class Damaged(StoreUnusable):
    """The file is not, or no longer, a database of ours."""


def require_whole(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version of a file of ours, 0 for an empty one.

    Raises:
      Damaged: its pages or its tables are not what we wrote.
      StoreTooNew: a newer version of the program wrote it.
    """
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise Damaged(f"{path} is damaged ({' '.join(finding.split())})")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= _PLAUSIBLE_VERSION_MAX:
        raise Damaged(f"{path} is damaged (it says that its schema is number {version})")
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{path} was written by a newer version of localai-node (schema {version}; this one knows "
            f"{SCHEMA_VERSION}): update this node, or move the file away and the peers refill it"
        )
    if _tables(connection) != _tables_of(version):
        raise Damaged(f"{path} is damaged (its tables are not those of schema {version})")
    return int(version)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file from schema `version` to ours, all the way or, whatever happens meanwhile, not at all."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in _STEPS[version:]:
            connection.execute(step)
        _sign_version(connection)


def _sign_version(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def require_header(path: Path) -> None:
    """Nothing, unless SQLite would take a damaged file for one that may only be read.

    To be asked before the file is opened: when any handle of it is closed, POSIX takes back all
    locks that our process, and so SQLite, holds on it.

    Raises:
      Damaged: the file is there and does not begin as one of ours.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_SIZE)
    except FileNotFoundError:
        return
    if len(header) == _HEADER_SIZE and not _JOURNAL_VERSIONS.issuperset(header[18:20]):
        raise Damaged(f"{path} is damaged (its header is not one that SQLite wrote)")


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """Our tables, as SQL. What somebody who looked around added beside them does no harm."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name IN ('entries', 'log')")
    return {name: " ".join(str(sql).split()) for name, sql in rows}


def _tables_of(version: int) -> dict[str, str]:
    return {sql.split()[2]: " ".join(sql.split()) for sql in _STEPS[:version]}


@contextmanager
def errors_mapped(path: Path, *, is_opening: bool = False) -> Iterator[None]:
    """SQLite's errors as ours, so that they say what a person can do.

    While a file is opened all we ask is fixed, so that SQLite cannot make sense of it is the file's fault.
    """
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        # The second: no room for the 32 KiB that readers and the writer share beside the file.
        if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
            raise StoreFull(f"no room on the disk for {path}; nothing was damaged") from error
        if code in _DAMAGE_CODES or (is_opening and code == sqlite3.SQLITE_ERROR):
            raise Damaged(f"{path} is damaged ({error})") from error
        advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
        raise StoreUnusable(f"{path} cannot be used ({error}){advice}") from error
    except UnicodeDecodeError as error:
        # From SQLite's own message, which quotes the file.
        raise Damaged(f"{path} is damaged (its schema is no text)") from error
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read ({error.strerror})") from error
