"""Sampling: which tokens may be drawn, and that the draw follows from seed, choice and place."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from node.engine.sampling import Adjustments, Rules, Scores, draw, likeliest, log_normaliser
from node.engine.wire import FilledSampling

ALL = FilledSampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
"""Nothing is cut off."""


def scores_of(*probabilities: float) -> Scores:
    return np.log(np.array(probabilities, np.float32))


def random_scores(seed: int, size: int) -> Scores:
    values: NDArray[np.float64] = np.random.default_rng(seed).normal(0, 3, size)
    # Of few values, so that some are equal.
    return np.round(values, 1).astype(np.float32)


def drawn(sampling: FilledSampling, scores: Scores) -> set[int]:
    """What can be drawn at all."""
    ids, _ = Rules(sampling).candidates(scores)
    return {int(each) for each in ids}


@given(st.integers(0, 2**32), st.sampled_from([5, 700, 5000]), st.sampled_from([1, 3, 40, 1024]))
def test_the_likeliest_come_in_order_and_of_equal_ones_the_first(seed: int, size: int, count: int) -> None:
    scores = random_scores(seed, size)
    expected = np.lexsort((np.arange(size), -scores))[:count]
    assert list(likeliest(scores, count)) == list(expected)


def test_probabilities_add_up_however_high_the_scores_are() -> None:
    scores = np.array([1000.0, 1000.0, -1000.0], np.float32)
    assert math.exp(1000.0 - log_normaliser(scores)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (FilledSampling(top_k=2, top_p=1.0, min_p=0.0), {0, 1}),
        (FilledSampling(top_k=0, top_p=0.7, min_p=0.0), {0, 1}),
        (FilledSampling(top_k=0, top_p=1.0, min_p=0.3), {0, 1}),
        (FilledSampling(top_k=0, top_p=0.0, min_p=0.0), {0}),
        (FilledSampling(top_k=3, top_p=1.0, min_p=0.0, typical_p=0.2), {1}),
        (FilledSampling(top_k=0, top_p=1.0, min_p=0.0, typical_p=0.7), {0, 1}),
        (FilledSampling(top_k=0, top_p=1.0, min_p=0.0), {0, 1, 2, 3}),
    ],
)
def test_who_may_be_drawn(sampling: FilledSampling, expected: set[int]) -> None:
    assert drawn(sampling, scores_of(0.5, 0.3, 0.15, 0.05)) == expected


@given(
    st.integers(0, 2**32),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.2),
    st.sampled_from([0, 1, 7, 40, 5000]),
)
def test_a_shortlist_changes_nothing(seed: int, top_p: float, min_p: float, top_k: int) -> None:
    scores = random_scores(seed, 1500)
    order = [int(each) for each in np.lexsort((np.arange(len(scores)), -scores))]
    if 0 < top_k < len(order):
        order = order[:top_k]
    weights = np.exp(scores[order].astype(np.float64) - float(scores.max()))
    probabilities = weights / weights.sum()
    expected: list[int] = []
    before = 0.0
    for token, probability in zip(order, probabilities, strict=True):
        is_cut = (top_p < 1 and before >= top_p) or probability < min_p * probabilities[0]
        if expected and is_cut:
            break
        expected.append(token)
        before += probability
    found = drawn(FilledSampling(top_k=top_k, top_p=top_p, min_p=min_p), scores)
    # Sums of thousands of numbers differ in their last digits, and with them who is the last one.
    assert found ^ set(expected) <= set(expected[-1:]) | (found - set(expected[:-1]))
    assert abs(len(found) - len(expected)) <= 1


def plainly_chosen(sampling: FilledSampling, scores: Scores, chance: float) -> int:
    """The definition, a number at a time."""
    ids = [int(each) for each in np.lexsort((np.arange(len(scores)), -scores))[: sampling.top_k]]
    weights = [math.exp(float(scores[token]) - float(scores[ids[0]])) for token in ids]
    before = 0.0
    kept: list[tuple[int, float]] = []
    for token, weight in zip(ids, weights, strict=True):
        is_enough = sampling.top_p < 1 and before >= sampling.top_p * sum(weights)
        if kept and (is_enough or weight < sampling.min_p):
            break
        before += weight
        kept.append((token, weight ** (1 / sampling.temperature)))
    left = chance * sum(weight for _, weight in kept)
    for token, weight in kept:
        left -= weight
        if left < 0:
            return token
    raise AssertionError("a draw is less than 1")


@settings(deadline=None)  # A busy machine takes half a second for one.
@given(
    st.integers(0, 2**32),
    # Where all are equal nothing but their order tells them apart.
    st.sampled_from([(1500, 3.0), (4000, 3.0), (700, 0.0)]),
    st.sampled_from([(0.8, 40, 0.95, 0.05), (1.0, 40, 1.0, 0.0), (0.2, 7, 0.5, 0.0), (3.0, 100, 0.99, 0.01)]),
)
def test_what_is_chosen_is_what_the_definition_says(
    seed: int, size_and_spread: tuple[int, float], sampled: tuple[float, int, float, float]
) -> None:
    (size, spread), (temperature, top_k, top_p, min_p) = size_and_spread, sampled
    scores = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    sampling = FilledSampling(temperature, top_k, top_p, min_p)
    for place in range(3):
        chance = draw(seed, 0, place)
        assert Rules(sampling).choose(scores, chance) == plainly_chosen(sampling, scores, chance)


def test_draws_follow_the_probabilities() -> None:
    rules, scores = Rules(ALL), scores_of(0.6, 0.3, 0.1)
    counts = Counter(rules.choose(scores, draw(3, 0, place)) for place in range(20_000))
    assert [counts[token] / 20_000 for token in range(3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_temperature_sharpens_and_flattens() -> None:
    scores = scores_of(0.8, 0.2)
    share = {
        temperature: sum(
            Rules(FilledSampling(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0)).choose(
                scores, draw(1, 0, place)
            )
            for place in range(5000)
        )
        / 5000
        for temperature in (0.5, 1.0, 2.0)
    }
    assert share == pytest.approx({0.5: 1 / 17, 1.0: 0.2, 2.0: 1 / 3}, abs=0.02)


@pytest.mark.parametrize(
    "sampling", [FilledSampling(temperature=0), FilledSampling(top_k=1), FilledSampling(temperature=1e-9)]
)
def test_without_temperature_the_likeliest_is_chosen(sampling: FilledSampling) -> None:
    rules = Rules(sampling)
    assert {rules.choose(scores_of(0.2, 0.5, 0.3), draw(1, 0, place)) for place in range(50)} == {1}


def test_the_largest_draw_is_below_one_and_never_finds_what_cannot_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Largest:
        def digest(self) -> bytes:
            return b"\xff" * 8

    monkeypatch.setattr("hashlib.blake2b", lambda data, digest_size: Largest())
    largest = draw(1, 2, 3)
    assert largest < 1.0
    scores = np.array([-math.inf, 1.0, 0.0, -math.inf, -2000.0], np.float32)
    assert Rules(ALL).choose(scores, largest) == 2
    assert drawn(ALL, scores) == {1, 2}
    assert drawn(FilledSampling(top_k=3, top_p=1.0, min_p=0.0), scores) == {1, 2}


def test_a_draw_follows_from_seed_choice_and_place_alone() -> None:
    assert draw(7, 1, 2) == draw(7, 1, 2)
    assert len({draw(7, 1, 2), draw(8, 1, 2), draw(7, 2, 2), draw(7, 1, 3)}) == 4
    assert draw(-1, 0, 0) == draw(2**64 - 1, 0, 0)


def adjusted(sampling: FilledSampling, *generated: int, prompt: tuple[int, ...] = ()) -> list[float]:
    adjustments = Adjustments(sampling, prompt)
    for token in generated:
        adjustments.accept(token)
    scores = np.array([1.0, -1.0, 2.0, 0.0], np.float32)
    adjustments.apply(scores)
    return [round(float(score), 3) for score in scores]


def test_what_was_said_before_is_less_likely_by_presence_and_by_count() -> None:
    assert adjusted(FilledSampling(presence_penalty=0.5), 0, 0) == [0.5, -1.0, 2.0, 0.0]
    assert adjusted(FilledSampling(frequency_penalty=0.5), 0, 0) == [0.0, -1.0, 2.0, 0.0]
    assert adjusted(FilledSampling(presence_penalty=-1.0), 3) == [1.0, -1.0, 2.0, 1.0]


def test_only_the_repeat_penalty_looks_at_the_prompt_and_only_so_far_back() -> None:
    assert adjusted(FilledSampling(repeat_penalty=2.0), 2, prompt=(1,)) == [1.0, -2.0, 1.0, 0.0]
    assert adjusted(FilledSampling(repeat_penalty=2.0, repeat_last_n=1), 2, prompt=(1,)) == [
        1.0,
        -1.0,
        1.0,
        0.0,
    ]
    assert adjusted(FilledSampling(repeat_penalty=2.0, repeat_last_n=0), 2) == [1.0, -1.0, 2.0, 0.0]
    assert adjusted(FilledSampling(presence_penalty=1.0), prompt=(0,)) == [1.0, -1.0, 2.0, 0.0]


def test_a_bias_is_added_and_what_is_banned_never_comes() -> None:
    assert adjusted(FilledSampling(logit_bias={0: 2.5, 3: -100.0})) == [3.5, -1.0, 2.0, -100.0]
    scores = np.zeros(3, np.float32)
    Adjustments(FilledSampling(logit_bias={0: 100.0}), (), banned={0}).apply(scores)
    assert list(scores) == [-math.inf, 0.0, 0.0]
