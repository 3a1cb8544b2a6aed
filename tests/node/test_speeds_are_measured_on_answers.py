"""How fast a model is said to be: what its answers showed, smoothed."""

from __future__ import annotations

import pytest

from federation.backend import Done, Timings, Usage
from ledger.probe import SPEED_MAX
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
