"""The log in the ledger's file: what came in, what did not, and why. For people who wonder.

    wrote      we said it
    took       a peer sent it, and it stands
    refused    a peer sent it, and it does not stand; the reason says why. Of one reason the first in each
               link: all are counted, in /metrics
    dropped    it fell below its owner's floor

Nothing depends on it. The newest rows are kept and each is small, whatever peers send, so
it stays below a few megabytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from p2p.peer import PeerId

LogWhat: TypeAlias = Literal["took", "wrote", "dropped", "refused"]

LOG_ROWS_MAX = 10_000
"""Rows. A node that meets a swarm of a thousand for the first time takes that many entries."""
_TRIM_EVERY = 1_000
"""Rows that may be there beyond `LOG_ROWS_MAX`: so many go at once, instead of one with each write."""
_TEXT_LENGTH_MAX = 200
"""Characters. Keys that may stand in a ledger have 160 bytes; one that was refused has up to 64 KiB."""

_WORDS: tuple[LogWhat, ...] = get_args(LogWhat)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One thing that happened to one place."""

    unix_time: float
    what: LogWhat
    owner: PeerId
    """Empty, as the key: what was refused could not be read."""
    key: str
    epoch: int
    counter: int
    source: str
    """Id of the peer it came from; empty: ours."""
    reason: str
    """Why it was refused, or empty."""


def append(connection: sqlite3.Connection, rows: list[LogRow]) -> None:
    """Add `rows`, oldest first, and now and then forget the oldest there are."""
    if not rows:
        return
    values = [
        (
            row.unix_time,
            row.what,
            row.owner,
            _cut(row.key),
            _signed(row.epoch),
            _signed(row.counter),
            row.source,
            _cut(row.reason),
        )
        for row in rows[-LOG_ROWS_MAX:]
    ]
    connection.executemany("INSERT INTO log VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    (oldest,) = connection.execute("SELECT min(sequence) FROM log").fetchone()
    (newest,) = connection.execute("SELECT max(sequence) FROM log").fetchone()
    if newest - oldest >= LOG_ROWS_MAX + _TRIM_EVERY:
        connection.execute("DELETE FROM log WHERE sequence <= ?", (newest - LOG_ROWS_MAX,))


def newest_first(connection: sqlite3.Connection, limit: int) -> list[LogRow]:
    """The last `limit` rows. One that cannot be made sense of is left out."""
    # The casts: a flipped bit can make any column of any type, which SQLite does not call damage.
    rows: Iterable[tuple[float, str, str, str, int, int, str, str]] = connection.execute(
        "SELECT CAST(unix_time AS REAL), CAST(what AS TEXT), CAST(owner AS TEXT), CAST(key AS TEXT),"
        " CAST(epoch AS INTEGER), CAST(counter AS INTEGER), CAST(source AS TEXT), CAST(reason AS TEXT)"
        " FROM log ORDER BY sequence DESC LIMIT ?",
        (min(limit, LOG_ROWS_MAX),),
    )
    return [
        LogRow(unix_time, word, PeerId(owner), key, _unsigned(epoch), _unsigned(counter), source, reason)
        for unix_time, what, owner, key, epoch, counter, source, reason in rows
        for word in _WORDS
        if word == what
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LENGTH_MAX else f"{text[: _TEXT_LENGTH_MAX - 3]}..."


def _signed(number: int) -> int:
    """`number` below 2**64 as SQLite holds it. Who lies about versions uses all 64 bits."""
    return number - 2**64 if number >= 2**63 else number


def _unsigned(number: int) -> int:
    return number % 2**64
