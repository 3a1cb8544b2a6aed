"""What ends a node comes out as itself, however deep the nursery it was raised in."""

from __future__ import annotations

import pytest
import trio

from node.errors import HomeDamaged, NodeError
from node.run_trio import run_trio


async def fail(*errors: Exception) -> None:
    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        for nursery, error in zip((outer, inner), errors, strict=False):
            nursery.start_soon(raise_it, error)
        await trio.sleep_forever()


async def raise_it(error: Exception) -> None:
    raise error


def test_a_run_that_ends_well_raises_nothing() -> None:
    run_trio(trio.lowlevel.checkpoint)


def test_one_reason_comes_out_as_itself() -> None:
    reason = HomeDamaged("state.json is cut")
    with pytest.raises(HomeDamaged) as raised:
        run_trio(lambda: fail(reason))
    assert raised.value is reason


def test_one_reason_met_by_two_tasks_is_one_reason() -> None:
    with pytest.raises(NodeError, match="disk full"):
        run_trio(lambda: fail(NodeError("disk full"), NodeError("disk full")))


def test_two_reasons_stay_two() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        run_trio(lambda: fail(NodeError("disk full"), NodeError("port taken")))
    assert raised.value.subgroup(NodeError) is not None


def test_ctrl_c_is_no_group() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)

    with pytest.raises(KeyboardInterrupt):
        run_trio(main)
