"""What a request takes, estimated before anybody was asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import (
    Delivered,
    InferenceRequest,
    RequestId,
    Resume,
)
from federation.work import Work, WorkEstimator
from ledger.records import ModelName

TINY = ModelName("tiny")


def work(estimator: WorkEstimator, **changes: Any) -> Work:
    fields = {"kind": "completion", "request_id": RequestId("r"), "model": TINY, **changes}
    return estimator.work(InferenceRequest(**fields))


@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(-5, 10**9), st.booleans()), max_size=20))
def test_an_answer_is_never_expected_longer_than_it_may_be(
    max_tokens: int, answers: list[tuple[int, bool]]
) -> None:
    estimator = WorkEstimator()
    some = work(estimator)
    for tokens, is_cut in answers:
        estimator.answered(some, tokens, ("length" if is_cut else "stop",))
    bounded = work(estimator, max_tokens=max_tokens)
    assert 0 <= bounded.answer_tokens <= max_tokens
    for came in (0, max_tokens / 2, max_tokens, 2 * max_tokens):
        assert 0 <= estimator.remaining(bounded, came) <= max(max_tokens - came, 0)
    assert work(estimator, max_tokens=max_tokens, ignore_eos=True).answer_tokens == max_tokens


def test_characters_become_tokens_as_this_model_counts_them() -> None:
    estimator = WorkEstimator()
    prompt = "x" * 8000
    assert work(estimator, prompt=prompt).prompt_tokens == pytest.approx(2000)
    for _ in range(50):
        estimator.accepted(work(estimator, prompt=prompt), 4000)
    assert work(estimator, prompt=prompt).prompt_tokens == pytest.approx(4000, rel=0.05)
    other = ModelName("other")
    assert work(estimator, prompt=prompt, model=other).prompt_tokens == pytest.approx(2000)
    assert work(estimator, prompt=[1, 2, 3]).prompt_tokens == 3


def test_answers_are_expected_as_long_as_they_turn_out() -> None:
    estimator = WorkEstimator()
    for _ in range(100):
        estimator.answered(work(estimator), 50, ("stop",))
    assert work(estimator).answer_tokens == pytest.approx(50, rel=0.2)


def test_answers_that_were_cut_say_that_they_would_have_been_longer() -> None:
    estimator = WorkEstimator()
    for _ in range(200):
        estimator.answered(work(estimator, max_tokens=10), 10, ("length",))
    assert work(estimator).answer_tokens > 300


def test_one_lie_about_a_prompt_does_not_outweigh_all_that_follows() -> None:
    estimator = WorkEstimator()
    for _ in range(50):
        estimator.accepted(work(estimator, prompt="x" * 400), 100)
    estimator.accepted(work(estimator, prompt="x" * 400), 2**24)
    estimator.accepted(work(estimator, prompt="x" * 400), 0)
    assert work(estimator, prompt="x" * 400).prompt_tokens < 200


def test_vectors_and_lookups_generate_nothing() -> None:
    found = work(WorkEstimator(), kind="embeddings", inputs=["x" * 400, [1, 2]])
    assert found.answer_tokens == 0
    assert found.prompt_tokens == pytest.approx(102)


def test_what_was_delivered_of_an_answer_is_read_again_and_not_generated() -> None:
    estimator = WorkEstimator()
    resume = Resume(bytes(32), (Delivered((1, 2, 3)), Delivered((1,))))
    found = work(estimator, prompt="x" * 400, max_tokens=10, ignore_eos=True, choices=2, resume=resume)
    assert found.prompt_tokens == pytest.approx(104)
    assert found.answer_tokens == 7
    estimator.accepted(found, 10_000)
    estimator.answered(found, 10_000, ("stop",))
    assert work(estimator, prompt="x" * 400).prompt_tokens == pytest.approx(100)
    assert work(estimator).answer_tokens == pytest.approx(200)
