"""One more peer is asked where the first one is late, rarely enough, and nobody else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import Chunk
from federation.errors import Failed
from federation.first_words import FirstWords
from ledger.records import Load
from p2p.peer import PeerId
from tests.answers import check_no_scope_stays_open

if TYPE_CHECKING:
    from tests.federation.conftest import Stage, Swarm

A, B = PeerId("a"), PeerId("b")


@asynccontextmanager
async def well_known_peers(stage: Stage, hedge: float = 1.0) -> AsyncIterator[Swarm]:
    """`a` is chosen first, and was quick so far."""
    async with stage.swarm("a", "b", hedge=hedge) as swarm:
        swarm.view.report("b", Load(4, 3))
        for worker in swarm.workers.values():
            worker.gap = 0.1
        for _ in range(20):
            assert (await stage.read(swarm.front, stage.request())).answer.served_by == "a"
        assert swarm.front.counts.hedges == {}
        yield swarm


def test_where_the_first_one_is_late_the_faster_one_answers(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            swarm.workers["a"].gap = 5.0
            asked_at = trio.current_time()
            async with swarm.front.infer(stage.request()) as answer:
                assert answer.served_by == "b"
                assert trio.current_time() - asked_at < 0.3
                assert swarm.leased == 1
                await trio.sleep(stage.A_ROUND_TRIP)
                assert swarm.workers["a"].running == 0
                assert await anext(answer.events) == Chunk(0, (0,), "one")
            assert swarm.front.counts.hedges == {A: 1}
            assert swarm.suspects == []

    stage.run(main)


def test_the_first_one_stays_where_it_begins_first_after_all(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            swarm.workers["a"].gap, swarm.workers["b"].gap = 0.2, 5.0
            answered = await stage.read(swarm.front, stage.request())
            assert (answered.answer.served_by, answered.text) == ("a", "one two three")
            assert swarm.front.counts.hedges == {A: 1}

    stage.run(main)


def test_where_nobody_else_is_there_the_first_one_has_all_the_time(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            swarm.workers["a"].gap = 5.0
            swarm.view.show("b", "offline")
            assert (await stage.read(swarm.front, stage.request())).text == "one two three"

    stage.run(main)


@pytest.mark.parametrize("second_fails", [True, False])
def test_one_that_fails_in_the_race_leaves_it_to_the_other(second_fails: bool, stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            for worker in swarm.workers.values():
                worker.gap = 5.0
            loser = swarm.workers["b" if second_fails else "a"]
            loser.accept_after, loser.failure, loser.hangs_at = 1.0, Failed("the engine died"), None
            answered = await stage.read(swarm.front, stage.request())
            assert answered.answer.served_by == ("a" if second_fails else "b")
            assert answered.text == "one two three"
            assert swarm.front.counts.failures == {loser.peer: 1}

    stage.run(main)


def test_of_a_whole_answer_nobody_is_asked_twice(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            swarm.workers["a"].gap = 5.0
            answered = await stage.read(swarm.front, stage.request(is_streamed=False))
            assert answered.answer.served_by == "a"
            assert swarm.front.counts.hedges == {}

    stage.run(main)


def test_no_more_is_asked_twice_than_was_allowed(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage, hedge=0.05) as swarm:
            swarm.workers["a"].gap = 5.0
            for _ in range(60):
                async with swarm.front.infer(stage.request()):
                    pass
            assert 1 <= swarm.front.counts.hedges[A] <= 0.05 * 80

    stage.run(main)


MOMENTS = [step * 0.02 for step in range(25)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_may_leave_in_the_middle_of_a_race(moment: float, stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            for worker in swarm.workers.values():
                worker.gap = 5.0
            with trio.move_on_after(moment) as client:
                await stage.read(swarm.front, stage.request())
            assert client.cancelled_caught
            assert swarm.leased == 0
            await trio.sleep(stage.A_ROUND_TRIP)
            assert swarm.running == 0

    stage.run(main)


def test_answers_that_were_raced_for_are_left_in_any_order(stage: Stage) -> None:
    async def main() -> None:
        async with well_known_peers(stage) as swarm:
            swarm.workers["a"].gap = 0.5
            await check_no_scope_stays_open(swarm.front, stage.request())
            assert swarm.front.counts.hedges[A] >= 1

    stage.run(main)


def test_late_is_what_nineteen_of_twenty_were_not() -> None:
    words = FirstWords(0.05)
    for number in range(19):
        words.came(A, 2.0, 2.0 * number)
    assert words.late_after(A, 2.0) is None
    words.came(A, 2.0, 38.0)
    assert words.late_after(A, 1.0) == 19.0
    assert words.late_after(B, 1.0) is None


@given(st.floats(0.01, 1), st.lists(st.booleans(), max_size=300))
def test_the_extra_work_never_exceeds_its_share(share: float, turns: list[bool]) -> None:
    words, extra = FirstWords(share), 0
    for asked, is_late in enumerate(turns, 1):
        words.asked()
        extra += is_late and words.spend()
        assert extra <= share * asked + 1e-9
