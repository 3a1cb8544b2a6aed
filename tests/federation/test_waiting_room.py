"""Whose turn it is: the core of the waiting room, on its own and at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.waiting_line import PASSED_OVER_MAX, QUANTUM, Tenant, Ticket
from federation.waiting_room import WAITING_MAX, Entered, Overflow, WaitingRoom
from ledger.records import ModelName

MODEL, OTHER = ModelName("tiny"), ModelName("other")
A, B, C = Tenant("a"), Tenant("b"), Tenant("c")


def enter(
    room: WaitingRoom,
    tenant: Tenant = A,
    priority: int = 0,
    tokens: int = 100,
    now: float = 0.0,
    *,
    slots: int = 1,
) -> Ticket:
    entered = room.enter(MODEL, tenant, priority, tokens, now, slots=slots)
    assert isinstance(entered, Entered)
    assert entered.evicted is None
    return entered.ticket


def admit_next(room: WaitingRoom) -> Ticket:
    ticket = next(room.in_turn(MODEL))
    room.admit(ticket, 0.0)
    return ticket


def order(room: WaitingRoom) -> list[Ticket]:
    """All who wait, as they go one after the other."""
    return [admit_next(room) for _ in list(room.in_turn(MODEL))]


def test_of_one_tenant_who_came_first_goes_first() -> None:
    room = WaitingRoom()
    tickets = [enter(room, tokens=tokens) for tokens in (5000, 1, 300)]
    assert [ticket.position for ticket in tickets] == [0, 1, 2]
    assert order(room) == tickets


def test_a_larger_priority_goes_first_whenever_it_came() -> None:
    room = WaitingRoom()
    low, normal, high = enter(room, priority=-1), enter(room), enter(room, priority=1)
    assert (low.position, normal.position, high.position) == (0, 0, 0)
    assert order(room) == [high, normal, low]


def test_a_smaller_priority_gets_one_slot_in_nine() -> None:
    room = WaitingRoom()
    low = [enter(room, priority=-1) for _ in range(2)]
    went = []
    for _ in range(2 * (PASSED_OVER_MAX + 1)):
        enter(room, priority=1)
        went.append(admit_next(room))
    assert [number for number, ticket in enumerate(went, 1) if ticket in low] == [9, 18]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 40), st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_who_comes_new_waits_for_one_request_of_each_other_tenant_at_most(
    flood: int, gone: int, costs: list[int]
) -> None:
    room = WaitingRoom()
    for number in range(flood):
        enter(room, A if number % 2 else B, tokens=costs[number % len(costs)])
    for _ in range(min(gone, flood - 1)):
        admit_next(room)
    new = enter(room, C, tokens=costs[0])
    went = order(room)
    before = Counter(ticket.tenant for ticket in went[: went.index(new)])
    assert max(before.values(), default=0) <= 1
    assert went.index(new) == new.position


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(3000, 3000, 3000), (3000, 300, 30)]))
def test_tenants_that_always_wait_get_the_same_number_of_tokens(seed: int, largest: tuple[int, ...]) -> None:
    room, rng = WaitingRoom(), Random(seed)
    cost_max = dict(zip((A, B, C), largest, strict=True))
    got: Counter[Tenant] = Counter()
    for tenant, cost in cost_max.items():
        enter(room, tenant, tokens=rng.randint(1, cost))
    for _ in range(100):
        ticket = admit_next(room)
        got[ticket.tenant] += ticket.tokens
        enter(room, ticket.tenant, tokens=rng.randint(1, cost_max[ticket.tenant]))
        assert max(got.values()) - min(got[tenant] for tenant in (A, B, C)) <= QUANTUM + 3000


def test_what_was_charged_too_much_is_given_back() -> None:
    room = WaitingRoom()
    greedy = enter(room, A, tokens=100_000)
    rest = [enter(room, A), enter(room, B), enter(room, B), enter(room, B)]
    assert admit_next(room) == greedy
    room.release(greedy, 1.0, tokens=10)
    # Without it B would have had two hundred turns.
    assert order(room) == [rest[1], rest[0], rest[2], rest[3]]


def test_one_that_finds_no_place_does_not_block_those_behind_it() -> None:
    room = WaitingRoom()
    picky, second, other = enter(room, A), enter(room, A), enter(room, B)
    assert list(room.in_turn(MODEL)) == [picky, second, other]
    room.admit(second, 0.0)
    assert list(room.in_turn(MODEL)) == [other, picky]


def test_one_that_needs_several_slots_is_overdue_once_eight_were_let_past_it_and_then_goes_first() -> None:
    room = WaitingRoom()
    several, another = enter(room, A, slots=4, tokens=9000), enter(room, A, slots=4)
    for _ in range(PASSED_OVER_MAX):
        assert not room.is_overdue(several)
        single = enter(room, B)
        # Its turn it was, and it found no place.
        assert next(iter(room.in_turn(MODEL))) == several
        room.admit(single, 0.0)
    assert room.is_overdue(several)
    assert not room.is_overdue(another)
    high = enter(room, B, priority=1)
    assert list(room.in_turn(MODEL)) == [several, high, another]
    assert admit_next(room) == several
    room.bring_back(several)
    assert room.is_overdue(several)
    assert admit_next(room) == several
    room.release(several, 1.0)
    assert order(room) == [high, another]
    assert room._lines[MODEL]._passed_over == {}


def test_one_that_needs_several_slots_is_passed_over_only_by_those_that_need_fewer() -> None:
    room = WaitingRoom()
    picky = enter(room, A, slots=2)
    for _ in range(2 * PASSED_OVER_MAX):
        room.admit(enter(room, B, slots=2), 0.0)
        enter(room, C, priority=1)
        admit_next(room)
    assert not room.is_overdue(picky)


def test_who_comes_back_stands_where_it_stood_and_has_paid_nothing() -> None:
    room = WaitingRoom()
    tickets = [enter(room, A, tokens=9000), enter(room, A), enter(room, B), enter(room, B)]
    before = list(room.in_turn(MODEL))
    first = admit_next(room)
    room.bring_back(first)
    assert list(room.in_turn(MODEL)) == before
    assert order(room) == [tickets[0], tickets[2], tickets[3], tickets[1]]


def test_leaving_costs_nothing() -> None:
    room = WaitingRoom()
    gone = [enter(room, A, tokens=5000) for _ in range(10)]
    first, second = enter(room, A), enter(room, B)
    for ticket in gone:
        room.leave(ticket)
    useless = admit_next(room)
    room.leave(useless)
    assert (useless, order(room)) == (first, [second])


def test_a_full_room_sends_the_next_one_away() -> None:
    room = WaitingRoom()
    for _ in range(WAITING_MAX):
        enter(room)
    assert room.enter(MODEL, A, 0, 1, 0.0) == Overflow(None)
    assert isinstance(room.enter(OTHER, A, 0, 1, 0.0), Entered)


def test_in_a_full_room_who_has_the_most_makes_room_for_others() -> None:
    room = WaitingRoom()
    of_a = [enter(room, A) for _ in range(WAITING_MAX)]
    evicted = []
    while isinstance(entered := room.enter(MODEL, B, 0, 1, 0.0), Entered):
        assert entered.evicted
        evicted.append(entered.evicted.ticket)
    assert evicted == of_a[: WAITING_MAX // 2 - 1 : -1]
    assert room.wanted(MODEL) == WAITING_MAX


def test_in_a_full_room_a_larger_priority_takes_the_place_of_a_smaller_one() -> None:
    room = WaitingRoom()
    low = [enter(room, A, priority=-1) for _ in range(WAITING_MAX)]
    entered = room.enter(MODEL, A, 0, 1, 0.0)
    assert isinstance(entered, Entered)
    assert entered.evicted
    assert entered.evicted.ticket == low[-1]
    assert isinstance(room.enter(MODEL, B, -2, 1, 0.0), Overflow)


def hold_slots(room: WaitingRoom, count: int, seconds: float) -> list[Ticket]:
    """So many slots are held, each for `seconds` on average."""
    held = []
    for _ in range(count + 1):
        enter(room)
        held.append(admit_next(room))
    room.release(held.pop(), seconds)
    return held


def test_the_estimate_follows_from_how_long_slots_are_held() -> None:
    room = WaitingRoom()
    enter(room)
    assert room.report(5.0)[MODEL].estimate is None
    admit_next(room)
    held = hold_slots(room, 3, seconds=8.0)
    tickets = [enter(room, now=float(number)) for number in range(3)]
    report = room.report(8.0)[MODEL]
    assert (report.waiting, report.oldest, report.estimate) == (3, 8.0, 4 * 8.0 / 4)
    for ticket in held:
        room.release(ticket, 8.0)
    for ticket in tickets:
        room.leave(ticket)
    assert room.report(0.0) == {}


def test_whoever_is_sent_away_is_told_of_a_place_of_its_own() -> None:
    room = WaitingRoom()
    held = hold_slots(room, 4, seconds=8.0)
    for _ in range(WAITING_MAX):
        enter(room)
    told = [room.enter(MODEL, A, 0, 1, 0.0) for _ in range(4)]
    assert told == [Overflow(2.0), Overflow(4.0), Overflow(6.0), Overflow(8.0)]
    room.release(held.pop(), 8.0)
    admit_next(room)
    # One of them found its place; the next slot of that many is promised to the others.
    enter(room)
    assert room.enter(MODEL, A, 0, 1, 0.0) == Overflow(8.0)


def test_the_time_until_a_slot_frees_is_right_in_a_steady_swarm() -> None:
    """Four slots and answers of 6 s: one frees each 1.5 s."""
    room = WaitingRoom()
    held = hold_slots(room, 4, seconds=6.0)
    for _ in range(WAITING_MAX):
        enter(room)
    refused = [room.enter(MODEL, A, 0, 1, 0.0) for _ in range(10)]
    frees_at = [1.5 * number for number in range(1, 11)]
    assert [each.retry_after for each in refused if isinstance(each, Overflow)] == frees_at
    for ticket in held:
        room.release(ticket, 6.0)


def test_work_that_takes_longer_than_what_ended_is_not_promised_to_end_as_soon() -> None:
    """Answers took 2 s; those that run now have run for 16 s, and none has ended."""
    room = WaitingRoom()
    hold_slots(room, 4, seconds=2.0)
    enter(room)
    assert room.report(1.0)[MODEL].estimate == 2 * 2.0 / 4
    assert room.report(16.0)[MODEL].estimate == 2 * 16.0 / 4


@pytest.mark.parametrize("use", [WaitingRoom.leave, lambda room, ticket: room.admit(ticket, 0.0)])
def test_a_name_that_nobody_serves_leaves_nothing_behind(
    use: Callable[[WaitingRoom, Ticket], None],
) -> None:
    room = WaitingRoom()
    for number in range(10):
        entered = room.enter(ModelName(f"made up {number}"), A, 0, 1, 0.0)
        assert isinstance(entered, Entered)
        use(room, entered.ticket)
        if use is not WaitingRoom.leave:
            room.leave(entered.ticket)
    assert room._lines == {}


def test_models_that_were_used_long_ago_are_forgotten() -> None:
    room = WaitingRoom()
    for number in range(1000):
        entered = room.enter(ModelName(f"model {number}"), A, 0, 1, 0.0)
        assert isinstance(entered, Entered)
        room.admit(entered.ticket, 0.0)
        room.release(entered.ticket, 1.0)
    assert len(room._lines) <= 256


Step = tuple[str, int]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "enter", "admit", "skip", "leave", "back", "end"]), st.integers(0, 9)
        ),
        max_size=120,
    )
)
def test_nobody_is_lost_and_nothing_is_left(steps: list[Step]) -> None:
    room = WaitingRoom()
    waiting: list[Ticket] = []
    placed: list[Ticket] = []
    for step, number in steps:
        match step:
            case "enter":
                tenant, slots = (A, B, C)[number % 3], 1 + number // 5
                waiting.append(enter(room, tenant, priority=number % 2, tokens=1 + 500 * number, slots=slots))
            case "admit" if waiting:
                ticket = admit_next(room)
                waiting.remove(ticket)
                placed.append(ticket)
            case "skip" if waiting:
                ticket = list(room.in_turn(MODEL))[number % len(waiting)]
                room.admit(ticket, 0.0)
                waiting.remove(ticket)
                placed.append(ticket)
            case "leave" if waiting:
                room.leave(waiting.pop(number % len(waiting)))
            case "back" if placed:
                ticket = placed.pop(number % len(placed))
                room.bring_back(ticket)
                waiting.append(ticket)
            case "end" if placed:
                room.release(placed.pop(number % len(placed)), 1.0, tokens=number)
        assert sorted(room.in_turn(MODEL)) == sorted(waiting)
        for tenant in (A, B, C):
            for priority in (0, 1):
                own = [t for t in room.in_turn(MODEL) if (t.tenant, t.priority) == (tenant, priority)]
                own = [t for t in own if not room.is_overdue(t)]
                assert own == sorted(own)
    assert sorted(order(room)) == sorted(waiting)
    for ticket in (*waiting, *placed):
        room.release(ticket, 1.0)
    assert room.report(0.0) == {}
    assert all(line._passed_over == {} for line in room._lines.values())
