"""The way of a line from who logs it to stderr: a queue, and a thread that may wait.

    who logs --line--> queue, bounded --> thread --> stderr

A pipe that nobody reads blocks who writes into it. A node that waited there would stop answering and be
taken for dead, so only this thread waits. Lines that find no room are dropped; before the next one that finds
some, a line says how many there were.

The thread rests after each write, and then writes all that came meanwhile: to wake it for each line would
take the interpreter away from who logs, who on a busy machine has it back some milliseconds later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Event, Thread
from typing import NamedTuple, TextIO, TypeAlias

Write: TypeAlias = Callable[[str], None]
"""Writes lines, for as long as that takes. Raises OSError where it cannot."""

LINES_MAX = 4096
"""A megabyte or two: what a busy node says in a minute, in which a supervisor may be restarted."""
_REST = 0.05
"""Seconds: so many may be lost when the process is killed, and nobody reads a log that fast."""
_LAST_LINES_TIMEOUT = 5.0
"""Seconds for all that was said to be read at the end. Who reads takes milliseconds for it."""


class _Said(NamedTuple):
    """What is written at once."""

    text: str
    lines: int = 1
    """Of the log, that are missing if this is: those that it tells of as missing, too."""


class LogQueue(QueueHandler):
    """Words lines at once, and has them written by a thread of its own, until `finish`."""

    queue: Queue[_Said | None]

    def __init__(self, write: Write, lines_max: int = LINES_MAX) -> None:
        super().__init__(Queue(lines_max))
        self._write = write
        self._missing = 0
        """Lines, since the last one that found room. Guarded by the handler's own lock."""
        self._is_ending = Event()
        # A daemon, because the node must be able to end while a write waits for a reader that never comes.
        self._thread = Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """As `QueueHandler` has it, for a record that is a line already; the lock is held."""
        try:
            if self._missing:
                self.queue.put_nowait(self._account())
                self._missing = 0
            self.queue.put_nowait(_Said(record.getMessage()))
        except Full:
            self._missing += 1

    def finish(self) -> None:
        """Return when everything is written, or nobody reads it. Nothing may be logged any more."""
        self._is_ending.set()
        try:
            self.queue.put(None, timeout=_LAST_LINES_TIMEOUT)
        except Full:
            return
        self._thread.join(_LAST_LINES_TIMEOUT)

    def _write_lines(self) -> None:
        is_over = False
        while not is_over:
            taken = [self.queue.get()]
            while len(taken) < self.queue.maxsize and not self.queue.empty():
                taken.append(self.queue.get())
            lines = [said for said in taken if said is not None]
            # The end is the last thing that is put there.
            is_over = len(lines) < len(taken)
            if lines:
                self._try_to_write(lines)
                self._is_ending.wait(_REST)
        if self._missing:
            self._try_to_write([self._account()])

    def _try_to_write(self, taken: Sequence[_Said]) -> None:
        try:
            self._write("".join(f"{said.text}\n" for said in taken))
        except OSError:
            # A full disk, or a reader that has gone: whoever reads later is told how many are missing.
            self.acquire()
            self._missing += sum(said.lines for said in taken)
            self.release()

    def _account(self) -> _Said:
        text = "%d lines of this log are missing here: nobody read them, or they could not be written"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._missing,), None)
        return _Said(self.format(record), self._missing)


def raw_writer(stream: TextIO) -> Write:
    """Writes to the file below `stream`, past its buffer.

    At its end the interpreter takes the lock of that buffer, and a thread that waits would still hold it.
    """
    raw = open(stream.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115 (not ours to close)

    def write(line: str) -> None:
        left = line.encode(stream.encoding, "backslashreplace")
        while left:
            written = raw.write(left)
            if written is None:
                raise BlockingIOError("whoever shares this stream made it one that does not wait")
            left = left[written:]

    return write
