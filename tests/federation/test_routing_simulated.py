"""A small part of `make bench-routing`: what must hold in every course of events, and no timings."""

from __future__ import annotations

import math

import pytest

from tests.bench.routing_scenarios import (
    Course,
    newcomer,
    one_degrades,
    one_hangs,
    shared_prompt,
    steady,
)


def check(course: Course) -> None:
    """Everybody was served, and nobody beyond its slots."""
    assert all(math.isfinite(flight.total) for flight in course.flights)
    assert all(flight.delivered == flight.ask.answer_tokens for flight in course.flights), (
        "a token was lost or came twice"
    )
    assert max(max(running.values()) for _, running in course.samples) <= 4


@pytest.mark.parametrize("policy", ["eta", "least_used", "random"])
def test_everybody_is_served_and_no_peer_beyond_its_slots(policy: str) -> None:
    course = steady(policy, seed=1, seconds=90)
    check(course)
    assert len(course.served(since=0)) == 4


def test_the_same_seed_tells_the_same_story() -> None:
    first, second = (steady("eta", seed=3, seconds=60) for _ in range(2))
    assert [flight.total for flight in first.flights] == [flight.total for flight in second.flights]


def test_a_peer_that_hangs_keeps_nobody_for_good_and_is_spared() -> None:
    course = one_hangs("eta", seed=1, at=40, seconds=120)
    check(course)
    late = course.counted(since=50)
    assert sum(flight.peer == "peer0" for flight in late) == 0
    assert sum(flight.failures for flight in late) <= 6


def test_a_newcomer_is_used_and_gets_one_request_at_a_time_until_it_was_measured() -> None:
    course = newcomer("eta", seed=1, times=0.25, at=40, seconds=120)
    check(course)
    assert course.served(since=40)["new"] > 0
    first_end = min(flight.ended_at or 0.0 for flight in course.flights if flight.peer == "new")
    before = [running["new"] for when, running in course.samples if 40 < when < first_end]
    assert max(before) <= 2


def test_a_peer_that_got_slow_is_used_less() -> None:
    course = one_degrades("eta", seed=1, at=60, seconds=180)
    check(course)
    before, after = course.served(since=0, until=55), course.served(since=70)
    assert after["peer0"] / after.total() < before["peer0"] / before.total() / 2


def test_a_beginning_that_everybody_asks_with_spreads_and_is_read_less_often() -> None:
    with_affinity, without = (shared_prompt("eta", seed=1, knows_prefixes=knows) for knows in (True, False))
    check(with_affinity)
    served = with_affinity.served(since=0)
    assert len(served) >= 3
    assert max(served.values()) < served.total() / 2
    assert with_affinity.read_tokens < without.read_tokens
