"""What a request takes, estimated before anybody was asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.aliases import resolve
from federation.backend import Done, FinishReason, InferenceRequest, RequestId, Routing, Timings, Usage
from federation.work import Work, WorkEstimator
from ledger.records import AliasRecord, ModelName

TINY = ModelName("tiny")


def work(estimator: WorkEstimator, **changes: Any) -> Work:
    fields = {"kind": "completion", "request_id": RequestId("r"), "model": TINY, **changes}
    request = InferenceRequest(**fields)
    return estimator.work(request, resolve(request.model, request.routing, {}))


def done(tokens: int, reason: FinishReason = "stop") -> Done:
    return Done((reason,), Usage(10, tokens), Timings())


@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(-5, 10**9), st.booleans()), max_size=20))
def test_an_answer_is_never_expected_longer_than_it_may_be(
    max_tokens: int, answers: list[tuple[int, bool]]
) -> None:
    estimator = WorkEstimator()
    some = work(estimator)
    for tokens, is_cut in answers:
        estimator.answered(some, done(tokens, "length" if is_cut else "stop"))
    bounded = work(estimator, max_tokens=max_tokens)
    assert 0 <= bounded.answer_tokens <= max_tokens
    for tokens in (0, max_tokens / 2, max_tokens, 2 * max_tokens):
        assert 0 <= estimator.remaining(bounded, tokens) <= max(max_tokens - tokens, 0)
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
        estimator.answered(work(estimator), done(50))
    assert work(estimator).answer_tokens == pytest.approx(50, rel=0.2)


def test_answers_that_were_cut_say_that_they_would_have_been_longer() -> None:
    estimator = WorkEstimator()
    for _ in range(200):
        estimator.answered(work(estimator, max_tokens=10), done(10, "length"))
    assert work(estimator).answer_tokens > 300


def test_one_lie_about_a_prompt_does_not_outweigh_all_that_follows() -> None:
    estimator = WorkEstimator()
    estimator.accepted(work(estimator, prompt="x" * 400), 2**40)
    estimator.accepted(work(estimator, prompt="x" * 400), 0)
    assert work(estimator, prompt="x" * 400).prompt_tokens == pytest.approx(100)


def test_vectors_and_lookups_generate_nothing() -> None:
    found = work(WorkEstimator(), kind="embeddings", inputs=["x" * 400, [1, 2]])
    assert (found.answer_tokens, found.prompt_tokens) == (0, pytest.approx(102))


def test_an_alias_means_its_model_and_adds_its_wishes() -> None:
    fast = AliasRecord(
        ModelName("fast"),
        TINY,
        {"policy": "least_used", "only": ["gpu"], "prefer": ["desktop"], "avoid": ["laptop", 7], "later": 1},
    )
    asked = Routing(only=("home",), prefer=("cellar",))
    meant = resolve(ModelName("fast"), asked, {fast.alias: fast})
    assert meant.reference.name == TINY
    assert meant.routing.policy == "least_used"
    assert meant.only == (("home",), ("gpu",))
    assert meant.routing.prefer == ("cellar", "desktop")
    assert meant.routing.avoid == ("laptop",)


def test_a_clients_own_policy_goes_before_the_aliass() -> None:
    fast = AliasRecord(ModelName("fast"), TINY, {"policy": "random", "only": "no list"})
    meant = resolve(ModelName("fast"), Routing(policy="eta"), {fast.alias: fast})
    assert (meant.routing.policy, meant.only) == ("eta", ())


def test_an_alias_names_no_other_alias_and_keeps_a_file() -> None:
    sha256 = "a" * 64
    first = AliasRecord(ModelName("first"), ModelName("second"))
    second = AliasRecord(ModelName("second"), ModelName(f"tiny@sha256:{sha256}"))
    aliases = {each.alias: each for each in (first, second)}
    assert resolve(ModelName("first"), Routing(), aliases).reference.name == "second"
    assert resolve(ModelName("second"), Routing(), aliases).reference.sha256 == sha256
    assert resolve(ModelName("none"), Routing(), aliases).reference.name == "none"
