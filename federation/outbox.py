"""Outbox: what of one answer is still to be sent to a front, and what may be sent now.

    put --> unsent --> take        a chunk costs one credit, and takes along those that wait behind it
                         |
    nothing to take for a second: PROGRESS

One task puts, another one takes and sends, a third one tells the second what time it is. So neither
a task nor a scope is needed for a token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

from federation.backend import Chunk, Progress
from federation.chunk_sizing import merged
from federation.infer import CREDIT_MAX, PROGRESS_INTERVAL, WorkerMessage
from p2p.errors import BadFrame

_UNSENT_MAX = 32
"""Messages between the backend and the stream: what is merged into one chunk when credit comes back."""


def _no_progress() -> Progress:
    return Progress(0, 0)


class Outbox:
    """Messages in order. `credit`: chunks that the front takes before it grants more."""

    def __init__(self, credit: int, progress: Callable[[], Progress] = _no_progress) -> None:
        """`progress`: how far it is, until another one is put."""
        self._credit = credit
        self._unsent: deque[WorkerMessage] = deque()
        self._progress = progress
        self._silent_until = trio.current_time() + PROGRESS_INTERVAL
        self._may_take = trio.lowlevel.ParkingLot()
        self._has_room = trio.lowlevel.ParkingLot()

    def grant(self, count: int) -> None:
        """The front takes `count` more chunks.

        Raises:
          BadFrame: it cannot have read as many.
        """
        if self._credit + count > CREDIT_MAX:
            raise BadFrame("more credit than chunks were sent")
        self._credit += count
        self._may_take.unpark_all()

    async def put(self, message: WorkerMessage) -> None:
        """Have it sent after all before it; waits while there are too many. Of PROGRESS the newest counts,
        where nothing else comes. Cancelled: it is not sent."""
        if isinstance(message, Progress):
            self._progress = lambda: message
            return
        while len(self._unsent) >= _UNSENT_MAX:
            await self._has_room.park()
        self._unsent.append(message)
        self._may_take.unpark_all()

    async def take(self) -> WorkerMessage:
        """The next one that may be sent now. Cancelled: nothing is lost."""
        while (message := self._next()) is None:
            await self._may_take.park()
        return message

    async def watch_silence(self) -> NoReturn:
        """Until cancelled, have `take` look when it is time for PROGRESS."""
        while True:
            now, due_at = trio.current_time(), self._silent_until
            # A time that has passed is old: whoever takes is still sending.
            await trio.sleep_until(due_at if due_at > now else now + PROGRESS_INTERVAL)
            self._may_take.unpark_all()

    def _next(self) -> WorkerMessage | None:
        now = trio.current_time()
        if self._unsent:
            message = self._unsent[0]
            if isinstance(message, Chunk) and not self._credit:
                return None
            self._unsent.popleft()
            if isinstance(message, Chunk):
                self._credit -= 1
                message = self._with_what_waits(message)
            self._has_room.unpark_all()
        elif now >= self._silent_until:
            message = self._progress()
        else:
            return None
        self._silent_until = now + PROGRESS_INTERVAL
        return message

    def _with_what_waits(self, chunk: Chunk) -> Chunk:
        while self._unsent and isinstance(following := self._unsent[0], Chunk):
            both = merged(chunk, following)
            if both is None:
                break
            self._unsent.popleft()
            chunk = both
        return chunk
