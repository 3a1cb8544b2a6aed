"""The alarm alone."""

from __future__ import annotations

import trio

from p2p.alarm import Alarm
from tests.mock_time import run


def test_who_is_cleared_in_time_is_never_called_and_others_once() -> None:
    async def test() -> None:
        alarm = Alarm()
        called: list[tuple[str, float]] = []

        def first() -> None:
            called.append(("first", trio.current_time()))

        def second() -> None:
            called.append(("second", trio.current_time()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.run)
            began_at = trio.current_time()
            alarm.set(first, began_at + 1)
            alarm.set(second, began_at + 2)
            await trio.sleep(0.5)
            alarm.clear(first)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert called == [("second", began_at + 2)]

    run(test)


def test_who_sets_it_anew_has_the_new_time() -> None:
    async def test() -> None:
        alarm = Alarm()
        called: list[float] = []

        def wake() -> None:
            called.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.run)
            began_at = trio.current_time()
            alarm.set(wake, began_at + 1)
            await trio.sleep(0.5)
            alarm.set(wake, began_at + 3)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert called == [began_at + 3]

    run(test)
