"""The slot gate: fronts get a node's slots in turn, and no slot is lost or given twice."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.slot_gate import FRONTS_MAX, HELD_FOR, REMEMBERED_FOR, Offer, SlotGate
from ledger.records import ModelName
from p2p.peer import PeerId

MODEL = ModelName("tiny")
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def make_gate(slots: int = 1) -> SlotGate:
    gate = SlotGate(lambda model: slots if model == MODEL else 0)
    for front in (A, B, C):
        gate.meet(front)
    return gate


def test_who_comes_beyond_the_slots_is_refused_at_once() -> None:
    gate = make_gate(2)
    assert [gate.enter(A, MODEL, 1, 0.0) for _ in range(3)] == [True, True, False]
    assert gate.taken(MODEL) == 2


def test_a_slot_that_frees_is_held_for_who_was_refused() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    assert not gate.enter(B, MODEL, 1, 1.0)
    assert gate.leave(MODEL, 1, 2.0) == [Offer(B, MODEL)]
    assert gate.taken(MODEL) == 1
    assert not gate.enter(A, MODEL, 1, 2.1)
    assert gate.enter(B, MODEL, 1, 2.4)
    assert gate.wake_at == math.inf


def test_what_nobody_comes_for_is_offered_to_the_next() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    for front in (B, C):
        assert not gate.enter(front, MODEL, 1, 0.0)
    assert gate.leave(MODEL, 1, 1.0) == [Offer(B, MODEL)]
    assert gate.wake_at == 1.0 + HELD_FOR
    assert gate.on_time(gate.wake_at) == [Offer(C, MODEL)]
    assert gate.on_time(gate.wake_at) == []
    assert gate.taken(MODEL) == 0
    assert gate.enter(A, MODEL, 1, 3.0)


def test_a_refused_front_is_remembered_for_ten_seconds() -> None:
    for passed, offers in [(REMEMBERED_FOR - 0.1, [Offer(B, MODEL)]), (REMEMBERED_FOR, [])]:
        gate = make_gate()
        gate.enter(A, MODEL, 1, 0.0)
        gate.enter(B, MODEL, 1, 0.0)
        assert gate.leave(MODEL, 1, passed) == offers


def test_who_says_that_it_waits_is_remembered_until_it_says_otherwise() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 1, 0.0)
    gate.wait(C, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 0, 1.0)
    assert gate.leave(MODEL, 1, 1000.0) == [Offer(C, MODEL)]


def test_a_front_that_waits_no_more_gives_its_slot_to_the_next_at_once() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 1, 0.0)
    gate.wait(C, MODEL, 1, 0.0)
    assert gate.leave(MODEL, 1, 1.0) == [Offer(B, MODEL)]
    assert gate.wait(B, MODEL, 0, 1.0) == [Offer(C, MODEL)]
    assert gate.enter(C, MODEL, 1, 1.1)


def test_a_front_that_is_gone_holds_nothing() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 5, 0.0)
    gate.wait(C, MODEL, 1, 0.0)
    assert gate.leave(MODEL, 1, 1.0) == [Offer(B, MODEL)]
    assert gate.lose(B, 1.0) == [Offer(C, MODEL)]


def test_who_cannot_be_told_is_not_offered_anything() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    assert not gate.enter(PeerId("stranger"), MODEL, 1, 0.0)
    assert gate.leave(MODEL, 1, 1.0) == []
    assert gate.taken(MODEL) == 0


def test_who_waits_for_several_gets_one_in_turn() -> None:
    gate = make_gate(4)
    for _ in range(4):
        gate.enter(A, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 3, 0.0)
    gate.wait(C, MODEL, 2, 0.0)
    offers = [gate.leave(MODEL, 1, 1.0) for _ in range(4)]
    assert offers == [[Offer(front, MODEL)] for front in (B, C, B, C)]


def test_no_more_is_offered_than_a_front_waits_for() -> None:
    gate = make_gate(4)
    for _ in range(4):
        gate.enter(A, MODEL, 1, 0.0)
    gate.wait(B, MODEL, 1, 0.0)
    assert [gate.leave(MODEL, 1, 1.0) for _ in range(4)] == [[Offer(B, MODEL)], [], [], []]


def test_a_free_slot_is_offered_as_soon_as_somebody_waits() -> None:
    gate = make_gate(2)
    gate.enter(A, MODEL, 1, 0.0)
    assert gate.wait(B, MODEL, 3, 0.0) == [Offer(B, MODEL)]


def test_several_choices_are_let_in_together_or_not_at_all() -> None:
    gate = make_gate(4)
    assert gate.enter(A, MODEL, 3, 0.0)
    assert not gate.enter(B, MODEL, 2, 0.0)
    gate.leave(MODEL, 3, 1.0)
    assert gate.enter(B, MODEL, 2, 1.1)
    assert gate.taken(MODEL) == 2


def keep_busy(gate: SlotGate, turns: int) -> tuple[list[Offer], bool]:
    """Somebody who cannot be told of offers asks for the last slot again and again, until it gets none: what
    others were offered meanwhile, and whether it came to that."""
    offers: list[Offer] = []
    for _ in range(turns):
        if not gate.enter(PeerId("stranger"), MODEL, 1, 0.0):
            return offers, True
        offers += gate.leave(MODEL, 1, 0.0)
    return offers, False


def test_for_one_that_needs_several_slots_what_frees_is_kept_once_some_were_let_past_it() -> None:
    gate = make_gate(4)
    for _ in range(3):
        assert gate.enter(A, MODEL, 1, 0.0)
    assert not gate.enter(B, MODEL, 4, 0.0)
    gate.wait(B, MODEL, 4, 0.0)
    offers, is_kept = keep_busy(gate, 100)
    assert (offers, is_kept) == ([], True)
    # Nobody is told of a free slot that is not for it, and the others wait.
    assert gate.taken(MODEL) == 4
    assert gate.wait(C, MODEL, 1, 0.0) == []
    assert [gate.leave(MODEL, 1, 1.0) for _ in range(3)] == [[], [], [Offer(B, MODEL)] * 4]
    assert not gate.enter(C, MODEL, 1, 1.0)
    assert gate.enter(B, MODEL, 4, 1.1)
    assert gate.leave(MODEL, 4, 2.0) == [Offer(C, MODEL)]


@pytest.mark.parametrize("how", ["says so", "is gone", "forgot"])
def test_nothing_is_kept_for_one_that_waits_no_more(how: str) -> None:
    gate = make_gate(4)
    gate.enter(A, MODEL, 3, 0.0)
    assert not gate.enter(B, MODEL, 4, 0.0)
    assert keep_busy(gate, 100)[1]
    assert gate.wait(C, MODEL, 1, 0.0) == []
    match how:
        case "says so":
            offers = gate.wait(B, MODEL, 0, 1.0)
        case "is gone":
            offers = gate.lose(B, 1.0)
        case _:
            assert gate.wake_at == REMEMBERED_FOR
            offers = gate.on_time(gate.wake_at)
    assert Offer(C, MODEL) in offers
    assert gate.enter(C, MODEL, 1, 11.0)


def test_what_a_front_waits_for_besides_several_slots_is_offered_meanwhile() -> None:
    gate = make_gate(4)
    gate.enter(A, MODEL, 4, 0.0)
    assert not gate.enter(B, MODEL, 4, 0.0)
    gate.wait(B, MODEL, 5, 0.0)
    gate.leave(MODEL, 4, 1.0)
    assert not gate.enter(C, MODEL, 1, 1.0)
    gate = make_gate(4)
    gate.enter(A, MODEL, 3, 0.0)
    assert not gate.enter(B, MODEL, 4, 0.0)
    assert gate.wait(B, MODEL, 4, 0.0) == []
    assert gate.wait(B, MODEL, 5, 0.0) == [Offer(B, MODEL)]


def test_a_worker_that_has_fewer_slots_now_keeps_none_for_who_needs_more() -> None:
    slots = 4
    gate = SlotGate(lambda _: slots)
    for front in (A, B, C):
        gate.meet(front)
    gate.enter(A, MODEL, 3, 0.0)
    gate.enter(B, MODEL, 4, 0.0)
    gate.wait(B, MODEL, 4, 0.0)
    assert keep_busy(gate, 100)[1]
    slots = 2
    gate.leave(MODEL, 3, 1.0)
    assert gate.enter(B, MODEL, 4, 1.1)
    gate.leave(MODEL, 4, 2.0)
    assert gate.enter(A, MODEL, 2, 2.0)


def test_what_can_never_fit_is_the_workers_to_refuse() -> None:
    gate = make_gate(4)
    assert gate.enter(A, MODEL, 5, 0.0)
    gate.leave(MODEL, 5, 1.0)
    assert gate.enter(A, ModelName("failed"), 1, 0.0)


def test_the_number_of_waiting_fronts_is_bounded() -> None:
    gate = make_gate()
    gate.enter(A, MODEL, 1, 0.0)
    for number in range(2 * FRONTS_MAX):
        front = PeerId(f"front {number}")
        gate.meet(front)
        gate.enter(front, MODEL, 1, 0.0)
        gate.wait(front, MODEL, 1, 0.0)
    assert len(gate._models[MODEL].wishes) == FRONTS_MAX


def test_nothing_is_kept_of_a_model_that_nobody_uses() -> None:
    gate = make_gate()
    gate.wait(A, ModelName("nonsense"), 5, 0.0)
    gate.wait(A, ModelName("nonsense"), 0, 0.0)
    gate.enter(A, MODEL, 1, 0.0)
    gate.leave(MODEL, 1, 0.0)
    assert gate._models == {}


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "end", "wait", "lose", "time"]), st.integers(0, 8)),
        max_size=150,
    ),
)
def test_slots_are_neither_lost_nor_given_twice(slots: int, steps: list[tuple[str, int]]) -> None:
    gate, now = make_gate(slots), 0.0
    running: list[PeerId] = []
    for step, number in steps:
        front = (A, B, C)[number % 3]
        now += 0.1 * number
        held_before = len(gate._models[MODEL].held.get(front, ())) if MODEL in gate._models else 0
        match step:
            case "ask":
                is_free = gate.taken(MODEL) < slots
                is_let_in = gate.enter(front, MODEL, 1, now)
                assert is_let_in == (is_free or held_before > 0)
                if is_let_in:
                    running.append(front)
            case "end" if running:
                running.pop(number % len(running))
                gate.leave(MODEL, 1, now)
            case "wait":
                gate.wait(front, MODEL, number // 3, now)
            case "lose":
                gate.lose(front, now)
                gate.meet(front)
            case "time":
                gate.on_time(now)
        assert len(running) <= gate.taken(MODEL) <= slots
        # No slot is idle while somebody waits for more than is held for it.
        if MODEL in gate._models and gate.taken(MODEL) < slots:
            each = gate._models[MODEL]
            assert all(wish.wanted <= len(each.held.get(f, ())) for f, wish in each.wishes.items())
    for _ in running:
        gate.leave(MODEL, 1, now)
    while gate.wake_at < math.inf:
        gate.on_time(gate.wake_at)
    assert gate.taken(MODEL) == 0


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(1, 4))
def test_fronts_that_always_wait_get_the_same_number_of_slots(fronts: int, slots: int) -> None:
    gate = SlotGate(lambda _: slots)
    names = [PeerId(str(number)) for number in range(fronts)]
    got: Counter[PeerId] = Counter()
    for front in names:
        gate.meet(front)
    # The first asks for a hundred times as much as the others.
    offers = [
        offer
        for number, front in enumerate(names)
        for offer in gate.wait(front, MODEL, 100 if number == 0 else 1, 0.0)
    ]
    for turn in range(100):
        for offer in offers:
            assert gate.enter(offer.front, MODEL, 1, float(turn))
            got[offer.front] += 1
            gate.wait(offer.front, MODEL, 100 if offer.front == names[0] else 1, float(turn))
        offers = gate.leave(MODEL, 1, float(turn))
    # The first was there before the others, and had a turn for it.
    assert max(got.values()) - min(got.values()) <= slots + 1
