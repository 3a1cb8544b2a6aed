"""Backlog: by what the ledger's file is behind the ledger in memory.

Holds one mark per place, and the newest rows of the log. However slow the disk is, and
however often one entry changes meanwhile, it grows no further than the ledger itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ledger.entry import Entry, Place
from ledger.replica import Change
from ledger.state import Refused
from ledger.store import LogRow, LogWhat
from p2p.peer import PeerId

LOG_ROWS_MAX = 1000
"""Rows that wait for the disk: a newcomer takes in more at once, and the log is for what happens later."""


class Backlog:
    """What is to be written next."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        """For the log, which people read. Nothing is decided by it."""
        self._entries: dict[Place, Entry | None] = {}
        """None: nothing stands there any more."""
        self._log: deque[LogRow] = deque(maxlen=LOG_ROWS_MAX)

    def __bool__(self) -> bool:
        return bool(self._entries or self._log)

    def note(self, change: Change, stands: Entry | None) -> None:
        """An entry came or went, and this is what stands in its place now."""
        self._entries[change.entry.place] = stands
        came: LogWhat = "wrote" if change.source is None else "took"
        self._note(came if change.is_in else "dropped", change.entry, change.source)

    def note_refusal(self, refused: Refused, source: PeerId) -> None:
        """`source` sent something that did not come in."""
        self._note("refused", refused.entry, source, refused.reason)

    def refill(self, entries: Iterable[Entry]) -> None:
        """The file was begun anew: all these are missing in it."""
        self._entries.update((entry.place, entry) for entry in entries)

    @contextmanager
    def taken(self) -> Iterator[tuple[list[Entry], list[Place], list[LogRow]]]:
        """For `Store.write`: what to keep, to drop, and to log. After an error it waits on, as before."""
        entries, self._entries = self._entries, {}
        log, self._log = self._log, deque(maxlen=LOG_ROWS_MAX)
        kept = [entry for entry in entries.values() if entry is not None]
        dropped = [place for place, entry in entries.items() if entry is None]
        try:
            yield kept, dropped, list(log)
        except BaseException:
            self._entries = {**entries, **self._entries}
            self._log = deque((*log, *self._log), maxlen=LOG_ROWS_MAX)
            raise

    def _note(self, what: LogWhat, entry: Entry | None, source: PeerId | None, reason: str = "") -> None:
        self._log.append(
            LogRow(
                unix_time=self._wall_clock(),
                what=what,
                owner=entry.owner if entry else PeerId(""),
                key=entry.key if entry else "",
                epoch=entry.version.epoch if entry else 0,
                counter=entry.version.counter if entry else 0,
                source=source or PeerId(""),
                reason=reason,
            )
        )
