"""How fast each peer runs each model, as measured from here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import priors
from federation.speeds import USUAL_RISE, Prior, Speeds, alone_of
from ledger.records import Load, ModelName
from p2p.peer import PeerId

A, TINY = PeerId("a"), ModelName("tiny")
PRIOR = Prior(per_token=0.02, prefill=0.002, load=3.0)
POINTS = st.lists(
    st.tuples(st.floats(0.1, 2000), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 300)), max_size=30
)


@given(POINTS, st.floats(1e-6, 10), st.floats(1, 64))
def test_a_token_never_takes_less_where_more_answers_run(
    points: list[tuple[float, float, float, float]], per_token: float, concurrency: float
) -> None:
    speeds, now = Speeds(), 0.0
    prior = Prior(per_token, concurrency)
    for tokens, seconds, running, pause in points:
        now += pause
        speeds.decoded(A, TINY, tokens, seconds, concurrency=running, now=now)
    found = speeds.of(A, TINY, prior, now)
    assert found.each >= 0
    assert found.alone >= 0
    assert 0 < found.per_token(1) <= found.per_token(2) <= found.per_token(64)
    assert 0 < found.doubt <= 1


def test_without_measurements_the_prior_holds() -> None:
    found = Speeds().of(A, TINY, PRIOR, 0.0)
    assert found.per_token(1) == pytest.approx(0.02)
    assert found.each / found.alone == pytest.approx(USUAL_RISE)
    assert (found.prefill, found.load, found.doubt) == (0.002, 3.0, 1.0)


def test_one_point_moves_the_line_and_does_not_tilt_it() -> None:
    speeds = Speeds()
    speeds.decoded(A, TINY, 400, 400 * 0.04, concurrency=2, now=0.0)
    found = speeds.of(A, TINY, PRIOR, 0.0)
    assert found.per_token(2) == pytest.approx(0.04, rel=0.08)
    assert found.each / found.alone == pytest.approx(USUAL_RISE, rel=0.3)


def test_the_line_is_found_from_what_came_at_several_concurrencies() -> None:
    speeds = Speeds()
    for running in (1, 2, 3, 4, 6, 8) * 8:
        speeds.decoded(A, TINY, 16, 16 * (0.01 + 0.01 * running), concurrency=running, now=0.0)
    found = speeds.of(A, TINY, PRIOR, 0.0)
    assert found.per_token(1) == pytest.approx(0.02, rel=0.15)
    assert found.per_token(8) == pytest.approx(0.09, rel=0.1)


def test_a_machine_that_got_slower_is_known_as_slow_before_it_has_given_many_answers() -> None:
    speeds = Speeds()
    for _ in range(100):
        speeds.decoded(A, TINY, 16, 16 * 0.01, concurrency=1, now=0.0)
    for _ in range(32):
        speeds.decoded(A, TINY, 16, 16 * 0.05, concurrency=1, now=1.0)
    assert speeds.of(A, TINY, PRIOR, 1.0).per_token(1) > 0.03


def test_what_was_measured_long_ago_gives_way_to_the_prior() -> None:
    speeds = Speeds()
    speeds.decoded(A, TINY, 500, 500 * 0.2, concurrency=1, now=0.0)
    assert speeds.of(A, TINY, PRIOR, 0.0).per_token(1) > 0.18
    assert speeds.of(A, TINY, PRIOR, 900.0).per_token(1) == pytest.approx(0.02, rel=0.05)
    assert speeds.of(A, TINY, PRIOR, 900.0).doubt > 0.99


def test_prompts_and_loads_are_measured_too() -> None:
    speeds = Speeds()
    speeds.read(A, TINY, 4000, 4.0, 0.0)
    speeds.loaded(A, TINY, 7.5, 0.0)
    found = speeds.of(A, TINY, PRIOR, 0.0)
    assert found.prefill == pytest.approx(0.001, rel=0.05)
    assert found.load == 7.5


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (-5, 1.0), (10, -1.0)])
def test_what_cannot_be_measured_is_not(tokens: float, seconds: float) -> None:
    speeds = Speeds()
    speeds.decoded(A, TINY, tokens, seconds, concurrency=1, now=0.0)
    speeds.read(A, TINY, tokens, seconds, 0.0)
    assert len(speeds) == 0


def test_a_peer_that_says_absurd_things_stays_within_bounds() -> None:
    speeds = Speeds()
    speeds.decoded(A, TINY, 1, 1e30, concurrency=1e30, now=0.0)
    speeds.read(A, TINY, 1, 1e30, 0.0)
    found = speeds.of(A, TINY, PRIOR, 0.0)
    assert 0 < found.per_token(4) <= 3600
    assert 0 < found.prefill <= 3600


def test_a_newcomer_is_taken_to_be_like_the_others_by_its_hardware() -> None:
    slow, fast = priors.guess(2**30, {}), priors.guess(2**30, {"gpu": ["RTX"]})
    assert slow == pytest.approx(10 * fast)
    # The peers we know take three times as long as we would have guessed.
    corrected = priors.correction([(3 * slow, slow), (3 * fast, fast), (99.0, slow)])
    assert corrected == pytest.approx(3)
    assert priors.prior_of(fast, corrected, 2**30, None).per_token == pytest.approx(3 * fast)
    assert priors.correction([]) == 1


def test_what_a_peer_reports_goes_before_any_guess() -> None:
    load = Load(4, 2, prefill_speed=500, decode_speed=25)
    prior = priors.prior_of(0.001, 1.0, 2**30, load)
    assert (prior.per_token, prior.concurrency, prior.prefill) == (0.04, 2, 0.002)
    assert priors.reported_alone(load) == pytest.approx(alone_of(0.04, 2))
    assert priors.reported_alone(Load(4, 2)) is priors.reported_alone(None) is None
