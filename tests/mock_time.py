"""Tests in memory run on a clock that jumps over every wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

TIME_MAX = 24 * 3600.0
"""Seconds of mocked time: who waits longer than a day, a little at a time, waits for what never comes."""


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main`: seconds pass as soon as nobody has anything else to do."""

    async def bounded() -> T:
        with trio.fail_after(TIME_MAX):
            return await main()

    return trio.run(bounded, clock=MockClock(autojump_threshold=0))
