"""Alarm: many waits, each with a time that it may take, and one cancel scope for all of them.

A scope costs several times what a wait costs that soon ends, and an answer has one for each token. Here
a wait that ends in time takes two entries in a dict. One task `run`s the alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn, TypeAlias

import trio

Wake: TypeAlias = Callable[[], object]
"""Ends one wait; must not raise."""


class Alarm:
    """Calls whoever waits for too long."""

    def __init__(self) -> None:
        self._waits: dict[Wake, float] = {}
        """As many as there are tasks that wait."""
        self._sleep = trio.CancelScope()

    def set(self, wake: Wake, at: float) -> None:
        """Call `wake` at that time, once, unless it is cleared before."""
        self._waits[wake] = at
        self._sleep.deadline = min(self._sleep.deadline, at)

    def clear(self, wake: Wake) -> None:
        """It waits no more."""
        self._waits.pop(wake, None)

    async def run(self) -> NoReturn:
        """Until cancelled, call each in time."""
        while True:
            self._sleep = trio.CancelScope(deadline=min(self._waits.values(), default=math.inf))
            with self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            for wake in [each for each, at in self._waits.items() if at <= now]:
                self.clear(wake)
                wake()
