"""How busy peers are with requests of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.reports import Reports
from ledger.records import Load, ModelName
from p2p.peer import PeerId

A, TINY = PeerId("a"), ModelName("tiny")


def test_what_is_over_our_own_is_of_others() -> None:
    reports = Reports()
    reports.seen(A, TINY, Load(4, 3, queued=2), own=1, made_at=0.0)
    assert (reports.busy(A, TINY, 0.0), reports.queued(A, TINY, 0.0)) == (2, 2)
    assert reports.busy(A, ModelName("large"), 0.0) == 0


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_report_counts_less_the_older_it_is(busy: int, own: int, age: float, more: float) -> None:
    reports = Reports()
    reports.seen(A, TINY, Load(9, busy), own=own, made_at=0.0)
    assert max(busy - own, 0) >= reports.busy(A, TINY, age) >= reports.busy(A, TINY, age + more) >= 0


def test_what_is_said_again_is_as_good_as_new() -> None:
    reports = Reports()
    for now in (0.0, 10.0):
        reports.seen(A, TINY, Load(4, 4), own=0, made_at=now)
    assert reports.busy(A, TINY, 10.0) == 4
    assert reports.busy(A, TINY, 15.0) == pytest.approx(2)


def test_what_comes_with_an_answer_goes_before_an_older_view() -> None:
    reports = Reports()
    reports.seen(A, TINY, Load(4, 4), own=0, made_at=0.0)
    reports.told(A, TINY, Load(4, 1), own=1, now=1.0)
    reports.seen(A, TINY, Load(4, 4), own=0, made_at=1.5)
    assert reports.busy(A, TINY, 1.0) == 0
    reports.seen(A, TINY, Load(4, 2), own=0, made_at=2.0)
    assert reports.busy(A, TINY, 2.0) == 2


def test_our_own_that_ended_after_a_report_are_not_taken_for_others() -> None:
    reports = Reports()
    reports.seen(A, TINY, Load(4, 3), own=3, made_at=0.0)
    reports.seen(A, TINY, Load(4, 3), own=0, made_at=0.0)
    assert reports.busy(A, TINY, 0.0) == 0
