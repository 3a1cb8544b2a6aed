"""A number that rises with each change, and can be waited for.

A reader that was away learns that something changed, not how often: it costs nothing
to have many readers, and a slow one never sees less than the latest.
"""

from __future__ import annotations

import trio


class Revision:
    """How often something has changed."""

    def __init__(self) -> None:
        self.number = 0
        self._risen = trio.Event()

    def rise(self) -> None:
        """Something changed: wake everybody who waits."""
        self.number += 1
        self._risen.set()
        self._risen = trio.Event()

    async def after(self, number: int) -> int:
        """The current number, as soon as it is above `number`."""
        while self.number <= number:
            await self._risen.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.number
