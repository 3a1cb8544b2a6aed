"""Tests in memory run on a clock that jumps over every wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import trio
from trio._core import _run as scheduler
from trio.testing import MockClock

T = TypeVar("T")

TIME_MAX = 24 * 3600.0
"""Seconds of mocked time: who waits longer than a day, a little at a time, waits for what never comes."""


def run(main: Callable[[], Awaitable[T]], *, seed: int | None = None) -> T:
    """Run `main`: seconds pass as soon as nobody has anything else to do.

    With a `seed` tasks take their turns in the order that it throws, the same each time.
    """

    async def bounded() -> T:
        with trio.fail_after(TIME_MAX):
            return await main()

    with nullcontext() if seed is None else _turns_from(seed):
        return trio.run(bounded, clock=MockClock(autojump_threshold=0))


@contextmanager
def _turns_from(seed: int) -> Iterator[None]:
    """Let trio throw its dice from `seed`.

    It shuffles the tasks that can run, so that nobody comes to rely on an order, and has no public
    way to repeat a run. These are the two names that hypothesis's support for trio goes through. By
    default tasks wait in sets and are shuffled from there, where their addresses decide; with the
    flag they are sorted by their numbers first.
    """
    dice, is_sorted = scheduler._r.getstate(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._r.seed(seed)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    try:
        yield
    finally:
        scheduler._r.setstate(dice)
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = is_sorted  # type: ignore[misc]
