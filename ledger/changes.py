"""What changed in the ledger, for those who watch it.

A subscription holds the *set* of places that changed since its reader last looked,
not a list of events: a slow reader misses steps in between and never the last one,
and it can make nobody wait and keep no more than one mark per entry.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

import trio

from ledger.entry import Place


class Changes:
    """One subscription: `async for place in changes`. One reader; the ledger says what stands there now."""

    def __init__(self) -> None:
        self._unread: OrderedDict[Place, None] = OrderedDict()
        self._arrived = trio.Event()

    def note(self, place: Place) -> None:
        """Mark `place` for the reader."""
        self._unread[place] = None
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Place:
        """The place whose mark has waited longest, or the next one. Cancelled: no mark is lost."""
        while not self._unread:
            self._arrived = trio.Event()
            await self._arrived.wait()
        # A reader that never runs out of changes must not keep every other task from running.
        await trio.lowlevel.checkpoint()
        place, _ = self._unread.popitem(last=False)
        return place
