"""How fast a model is said to be: what its answers showed, smoothed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from federation.backend import (
    AnswerEvent,
    Chunk,
    Delivered,
    Done,
    InferenceRequest,
    RequestId,
    Resume,
    Timings,
    Usage,
)
from ledger.probe import SPEED_MAX
from ledger.records import ModelName
from node.answer_events import answer_events
from node.answer_reader import AnswerReader
from node.speeds import Speeds


def done(
    prompt: int = 100, cached: int = 0, answer: int = 11, prefill: float = 0.5, decode: float = 1.0
) -> Done:
    return Done(("stop",), Usage(prompt, answer, cached), Timings(0.0, prefill, decode))


def test_nothing_measured_is_zero() -> None:
    assert (Speeds().prefill, Speeds().decode) == (0.0, 0.0)


def test_one_answer_is_its_tokens_over_its_seconds() -> None:
    speeds = Speeds()
    speeds.answered(done(), waited=1.0)
    assert (speeds.prefill, speeds.decode) == (200.0, 10.0)


def test_what_was_cached_of_a_prompt_was_not_read() -> None:
    speeds = Speeds()
    speeds.answered(done(prompt=100, cached=90), waited=1.0)
    assert speeds.prefill == 20.0


def test_what_was_delivered_elsewhere_was_read_here_and_not_made() -> None:
    speeds = Speeds()
    speeds.answered(done(prompt=100, answer=2011, prefill=10.5), waited=1.0, delivered=2000)
    assert (speeds.prefill, speeds.decode) == (200.0, 10.0)


def test_an_answer_that_goes_on_with_another_one_is_measured_without_that() -> None:
    request = InferenceRequest(
        "completion",
        RequestId("r"),
        ModelName("tiny"),
        resume=Resume(bytes(32), (Delivered((7,) * 1500), Delivered((7,) * 500))),
    )
    speeds = Speeds()

    async def generated() -> AsyncIterator[AnswerEvent]:
        yield Chunk(0, (1,), "a")
        await trio.sleep(1)
        yield done(prompt=100, answer=2011, prefill=10.5)

    async def main() -> None:
        async for _ in answer_events(request, generated(), speeds, AnswerReader()):
            pass

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (speeds.prefill, speeds.decode) == (200.0, 10.0)


def test_an_answer_without_work_says_nothing() -> None:
    speeds = Speeds()
    speeds.answered(done(), waited=1.0)
    speeds.answered(done(cached=100, answer=1, decode=0.0), waited=1.0)
    speeds.answered(done(cached=100, answer=0), waited=1.0)
    assert (speeds.prefill, speeds.decode) == (200.0, 10.0)


def test_an_answer_that_was_read_slowly_says_nothing_of_decoding() -> None:
    speeds = Speeds()
    speeds.answered(done(decode=60.0), waited=1.0)
    assert (speeds.prefill, speeds.decode) == (200.0, 0.0)


def test_a_long_answer_counts_for_more_than_a_short_one() -> None:
    speeds = Speeds()
    speeds.answered(done(answer=1001, decode=10.0), waited=10.0)
    speeds.answered(done(answer=2, decode=1.0), waited=1.0)
    assert speeds.decode == pytest.approx(801 / 9)


def test_after_a_dozen_answers_the_past_is_nearly_forgotten() -> None:
    speeds = Speeds()
    speeds.answered(done(prefill=0.1), waited=1.0)
    for _ in range(12):
        speeds.answered(done(prefill=1.0), waited=1.0)
    assert speeds.prefill == pytest.approx(100.0, rel=0.1)


def test_no_speed_is_said_that_peers_would_take_for_a_lie() -> None:
    speeds = Speeds()
    speeds.answered(done(prompt=1000, answer=1000, prefill=1e-7, decode=1e-7), waited=1.0)
    assert (speeds.prefill, speeds.decode) == (SPEED_MAX, SPEED_MAX)
