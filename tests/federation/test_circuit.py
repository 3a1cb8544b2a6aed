"""Which peers fail, and when they are tried again."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from federation.circuit import FAILURES_MAX, Circuits
from ledger.records import ModelName
from p2p.peer import PeerId

A, TINY = PeerId("a"), ModelName("tiny")


def broken(now: float = 0.0) -> Circuits:
    circuits = Circuits()
    for number in range(FAILURES_MAX):
        circuits.failed(A, TINY, began_at=now + number, now=now + number)
    return circuits


def test_a_peer_that_failed_three_times_in_a_row_is_left_alone_for_a_while() -> None:
    circuits = broken()
    assert circuits.retry_in(A, TINY, 2.0) == 1.0
    assert circuits.retry_in(A, ModelName("large"), 2.0) == 0
    assert circuits.retry_in(PeerId("b"), TINY, 2.0) == 0


def test_then_one_request_tries_it_and_no_other() -> None:
    circuits = broken()
    assert circuits.retry_in(A, TINY, 3.0) == 0
    assert circuits.began(A, TINY)
    assert circuits.retry_in(A, TINY, 3.0) == math.inf
    circuits.abandoned(A, TINY)
    assert circuits.retry_in(A, TINY, 3.0) == 0


def test_success_closes_it_and_failure_opens_it_for_longer() -> None:
    circuits = broken()
    circuits.began(A, TINY)
    circuits.failed(A, TINY, began_at=3.0, now=4.0)
    assert circuits.retry_in(A, TINY, 4.0) == 2.0
    circuits.began(A, TINY)
    circuits.succeeded(A, TINY, 7.0)
    assert circuits.retry_in(A, TINY, 7.0) == 0
    assert circuits.failures(A, TINY) == 0
    assert not circuits.began(A, TINY)


def test_answers_that_one_crash_ends_are_one_failure() -> None:
    circuits = Circuits()
    for number in range(8):
        circuits.failed(A, TINY, began_at=number / 10, now=5.0 + number / 100)
    assert circuits.failures(A, TINY) == 1
    assert circuits.retry_in(A, TINY, 5.1) == 0


pauses = st.integers(0, 1600).map(lambda sixteenths: sixteenths / 16)
"""Seconds, of which a float has the exact sum: rounded, a minute from now may be a little more than one."""


@given(st.lists(st.tuples(st.booleans(), pauses), max_size=40))
def test_a_sick_peer_is_retried_within_a_minute_whatever_happened(outcomes: list[tuple[bool, float]]) -> None:
    circuits, now = Circuits(), 0.0
    for is_good, pause in outcomes:
        now += pause
        circuits.began(A, TINY)
        if is_good:
            circuits.succeeded(A, TINY, now)
        else:
            circuits.failed(A, TINY, began_at=now, now=now)
        assert 1 <= circuits.times(A, TINY, now) <= 10
        assert circuits.retry_in(A, TINY, now) <= 60
        assert circuits.retry_in(A, TINY, now + 60) == 0


def test_who_fails_costs_more_and_time_heals() -> None:
    circuits = Circuits()
    assert circuits.times(A, TINY, 0.0) == 1
    circuits.failed(A, TINY, began_at=0.0, now=0.0)
    once = circuits.times(A, TINY, 0.0)
    circuits.failed(A, TINY, began_at=1.0, now=1.0)
    assert 1 < circuits.times(A, TINY, 300.0) < once < circuits.times(A, TINY, 1.0)
