"""What it costs to have a peer serve a request, in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from federation.cost import PeerWork, Remaining, cost
from federation.speeds import PeerSpeed

TOKENS = st.floats(0, 1e5)
REMAINING = st.builds(Remaining, TOKENS, TOKENS)
PEERS = st.builds(
    PeerWork,
    slots=st.integers(0, 8),
    running=st.lists(REMAINING, max_size=10),
    others=st.floats(0, 10),
    queued=st.floats(0, 10),
    typical=REMAINING,
    silence=st.floats(0, 100),
    is_cold=st.booleans(),
    round_trip=st.floats(0, 1),
    times=st.floats(1, 10),
)
SPEEDS = st.builds(
    PeerSpeed,
    alone=st.floats(0, 1),
    each=st.floats(0, 1),
    prefill=st.floats(0, 1),
    load=st.floats(0, 100),
    doubt=st.floats(0, 1),
)
IDLE = PeerWork(4, [], 0.0, 0.0, Remaining(100, 100), 0.0, is_cold=False, round_trip=0.0, times=1.0)
SPEED = PeerSpeed(alone=0.02, each=0.005, prefill=0.001, load=10.0, doubt=0.0)


def at_least(more: float, less: float) -> bool:
    """Rounding apart."""
    return more >= less - 1e-6 * max(1.0, abs(less))


@given(st.tuples(PEERS, SPEEDS), TOKENS, TOKENS, st.integers(1, 4), TOKENS)
def test_cost_grows_with_the_request(
    at: tuple[PeerWork, PeerSpeed], prompt: float, answer: float, choices: int, more: float
) -> None:
    peer, speed = at
    least = cost(prompt, answer, choices, peer, speed).total
    assert least >= 0
    assert at_least(cost(prompt + more, answer, choices, peer, speed).total, least)
    assert at_least(cost(prompt, answer + more, choices, peer, speed).total, least)


@given(st.tuples(PEERS, SPEEDS), TOKENS, TOKENS, REMAINING, st.floats(0, 5))
def test_cost_grows_with_all_that_a_peer_has_to_do(
    at: tuple[PeerWork, PeerSpeed], prompt: float, answer: float, one: Remaining, more: float
) -> None:
    peer, speed = at
    least = cost(prompt, answer, 1, peer, speed).total
    busier = [
        replace(peer, running=[*peer.running, one]),
        replace(peer, others=peer.others + more),
        replace(peer, queued=peer.queued + more),
        replace(peer, silence=peer.silence + more),
        replace(peer, is_cold=True),
        replace(peer, round_trip=peer.round_trip + more),
        replace(peer, times=peer.times + more),
    ]
    assert all(at_least(cost(prompt, answer, 1, each, speed).total, least) for each in busier)


@given(PEERS, SPEEDS, TOKENS, TOKENS, st.floats(1, 10))
def test_a_slower_peer_costs_more(
    peer: PeerWork, speed: PeerSpeed, prompt: float, answer: float, times: float
) -> None:
    slower = replace(speed, alone=speed.alone * times, each=speed.each * times, prefill=speed.prefill * times)
    fast, slow = (cost(prompt, answer, 1, peer, each).total for each in (speed, slower))
    assert at_least(slow, fast)


@given(PEERS, SPEEDS, st.floats(0, 1e5), TOKENS, st.floats(0, 1))
def test_affinity_is_worth_the_time_to_read_what_is_kept_and_no_more(
    peer: PeerWork, speed: PeerSpeed, prompt: float, answer: float, share: float
) -> None:
    peer, speed = replace(peer, times=1.0), replace(speed, doubt=0.0)
    saved = (
        cost(prompt, answer, 1, peer, speed).total - cost(prompt * (1 - share), answer, 1, peer, speed).total
    )
    assert saved == pytest.approx(prompt * share * speed.prefill, abs=1e-3, rel=1e-6)


@given(st.integers(1, 8), st.lists(REMAINING, max_size=8), SPEEDS)
def test_nobody_waits_for_a_slot_while_one_is_free(
    slots: int, running: list[Remaining], speed: PeerSpeed
) -> None:
    assume(len(running) < slots)
    assert cost(10, 10, 1, replace(IDLE, slots=slots, running=running), speed).slot == 0


def test_the_terms_are_what_they_are_made_of() -> None:
    found = cost(1000, 200, 1, IDLE, SPEED)
    assert found.prefill == pytest.approx(1.0)
    assert found.decode == pytest.approx(200 * 0.025)
    assert found.total == pytest.approx(6.0)
    assert found.first_token == pytest.approx(1.0)
    busy = replace(IDLE, running=[Remaining(500, 100), Remaining(0, 10)], is_cold=True)
    found = cost(1000, 200, 1, busy, SPEED)
    assert found.queue == pytest.approx(0.5)
    assert found.load == 10.0
    assert found.decode == pytest.approx(200 * 0.035)


def test_where_all_slots_are_taken_one_waits_for_the_first_that_ends() -> None:
    full = replace(IDLE, running=[Remaining(0, 100)] * 4)
    found = cost(0, 0, 1, full, SPEED)
    assert found.slot == pytest.approx(100 / 4 * SPEED.per_token(4))
    queue = cost(0, 0, 1, replace(full, queued=4.0), SPEED)
    assert queue.slot == pytest.approx(200 * SPEED.per_token(4))


def test_a_peer_that_was_not_measured_gets_one_request_at_a_time_and_is_used() -> None:
    unknown = replace(SPEED, doubt=1.0)
    assert cost(100, 100, 1, IDLE, unknown).caution == 0
    one = cost(100, 100, 1, replace(IDLE, running=[Remaining(0, 50)]), unknown)
    assert one.caution == pytest.approx(one.total / 2)


def test_asking_in_vain_half_of_the_time_costs_twice_as_much() -> None:
    assert cost(100, 100, 1, replace(IDLE, times=2.0), SPEED).total == pytest.approx(
        2 * cost(100, 100, 1, IDLE, SPEED).total
    )
