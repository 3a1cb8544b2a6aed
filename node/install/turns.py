"""Turns: what two may not do at once, they do one after the other.

    async with turns.of([name, file_key]):      alone with these, among those who say so

Who waits for several takes them in one order, the same for all: nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import trio


class Turns:
    """Of everybody who shares this."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}
        """Of what somebody has or waits for."""

    @asynccontextmanager
    async def of(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Have all of `keys`, once nobody else has any. Cancelled: has none."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):
                stack.callback(self._forget, key)
                await stack.enter_async_context(self._locks.setdefault(key, trio.Lock()))
            yield

    def _forget(self, key: str) -> None:
        lock = self._locks.get(key)
        if lock is not None and not lock.locked():
            del self._locks[key]
