"""A peer that stands still is left for another one in seconds; one that is slow is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import AnswerEvent, Chunk, Resumed
from federation.infer import SILENCE_MAX
from federation.pace import Pace
from ledger.records import Load
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage, Swarm

A, B = PeerId("a"), PeerId("b")


@asynccontextmanager
async def two_peers(stage: Stage, gap: float = 0.1) -> AsyncIterator[Swarm]:
    """`a` is chosen first; both have the same file, and say ten words `gap` seconds apart."""
    async with stage.swarm("a", "b") as swarm:
        for name, worker in swarm.workers.items():
            swarm.view.show(name, sha256="a" * 64)
            worker.words, worker.gap = tuple("abcdefghij"), gap
        swarm.view.report("b", Load(4, 3))
        yield swarm


async def read_until_word(events: AsyncIterator[AnswerEvent], word: str) -> None:
    async for event in events:
        if isinstance(event, Chunk) and event.text == word:
            return


async def rest_of(events: AsyncIterator[AnswerEvent]) -> tuple[str, list[Resumed]]:
    read = [event async for event in events]
    text = "".join(event.text for event in read if isinstance(event, Chunk))
    return text, [event for event in read if isinstance(event, Resumed)]


def test_one_that_stands_still_is_left_after_three_seconds(stage: Stage) -> None:
    async def main() -> None:
        async with two_peers(stage) as swarm, swarm.front.infer(stage.request()) as answer:
            await read_until_word(answer.events, "c")
            swarm.hub.freeze(A)
            frozen_at = trio.current_time()
            resumed = await anext(answer.events)
            while not isinstance(resumed, Resumed):
                resumed = await anext(answer.events)
            assert trio.current_time() - frozen_at == pytest.approx(3.0, abs=0.1)
            assert await rest_of(answer.events) == ("abcdefghij"[resumed.tokens :], [])
            assert swarm.pulse.asked == swarm.suspects == ["a"]
            assert swarm.front.counts.stalls == {A: 1}
        swarm.hub.thaw(A)

    stage.run(main)


def test_one_that_answers_the_probe_is_slow_and_waited_for(stage: Stage) -> None:
    async def main() -> None:
        async with two_peers(stage) as swarm, swarm.front.infer(stage.request()) as answer:
            swarm.pulse.alive.add(A)
            await read_until_word(answer.events, "c")
            swarm.hub.freeze(A)
            async with trio.open_nursery() as nursery:

                async def thaw() -> None:
                    await trio.sleep(SILENCE_MAX - 1)
                    swarm.hub.thaw(A)

                nursery.start_soon(thaw)
                text, resumed = await rest_of(answer.events)
            assert text == "defghij"
            assert resumed == []
            assert swarm.pulse.asked == ["a"]
            assert swarm.suspects == []

    stage.run(main)


def test_one_that_lives_and_never_says_a_word_again_is_left_at_last(stage: Stage) -> None:
    async def main() -> None:
        async with two_peers(stage) as swarm, swarm.front.infer(stage.request()) as answer:
            swarm.pulse.alive.add(A)
            await read_until_word(answer.events, "c")
            swarm.hub.freeze(A)
            frozen_at = trio.current_time()
            _, resumed = await rest_of(answer.events)
            assert [each.served_by for each in resumed] == ["b"]
            assert trio.current_time() - frozen_at == pytest.approx(SILENCE_MAX + 0.7, abs=0.5)
        swarm.hub.thaw(A)

    stage.run(main)


def test_one_that_is_slow_to_open_a_stream_is_waited_for_too(stage: Stage) -> None:
    async def main() -> None:
        async with two_peers(stage) as swarm, trio.open_nursery() as nursery:
            swarm.pulse.alive.add(A)
            swarm.hub.freeze(A)

            async def thaw() -> None:
                await trio.sleep(8.0)
                swarm.hub.thaw(A)

            nursery.start_soon(thaw)
            assert (await stage.read(swarm.front, stage.request())).answer.served_by == "a"
            assert swarm.suspects == []

    stage.run(main)


def test_a_prompt_that_takes_half_a_minute_is_no_silence(stage: Stage) -> None:
    async def main() -> None:
        async with two_peers(stage, gap=30.0) as swarm:
            answered = await stage.read(swarm.front, stage.request())
            assert answered.text == "abcdefghij"
            assert swarm.pulse.asked == []

    stage.run(main)


def test_how_long_a_peer_may_be_silent_follows_its_pace() -> None:
    pace = Pace()
    assert pace.silence_max == 3.0
    pace.waited(0.1)
    assert pace.silence_max == 3.0
    for _ in range(100):
        pace.waited(0.5)
    assert pace.silence_max == pytest.approx(5.0, abs=0.01)
    for _ in range(100):
        pace.waited(5.0)
    assert pace.silence_max == SILENCE_MAX
