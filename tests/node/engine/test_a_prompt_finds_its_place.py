"""Slots: a prompt goes where most of it is, and costs others as little as it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.engine.slots import COMMON_MIN, Place, Slots

SYSTEM = list(range(100, 150))
"""The beginning of many prompts."""


def left(*contents: list[int], can_rewind: bool = True) -> Slots:
    """Slots that were left with these, one after the other, the first first."""
    slots = Slots(len(contents), can_rewind=can_rewind)
    for tokens in contents:
        if tokens:
            slots.leave(slots.take(tokens, may_reuse=False).slot, tokens)
    return slots


def test_a_conversation_that_goes_on_stays_in_its_slot() -> None:
    slots = left([*SYSTEM, 1, 2, 3, 9], [7] * 60)
    assert slots.take([*SYSTEM, 1, 2, 3, 4]) == Place(0, kept=53)


def test_the_last_token_of_a_prompt_is_never_kept() -> None:
    assert left(SYSTEM, []).take(SYSTEM) == Place(0, kept=len(SYSTEM) - 1)


def test_what_many_prompts_begin_with_is_copied_away_from_a_long_one() -> None:
    slots = left([*SYSTEM, *[1] * 200], [])
    assert slots.take([*SYSTEM, 2]) == Place(1, kept=50, source=0)


def test_a_prompt_is_copied_from_one_who_is_still_at_work() -> None:
    slots = Slots(2, can_rewind=True)
    busy = slots.take([*SYSTEM, 1]).slot
    slots.advance(busy, 40)
    assert slots.take([*SYSTEM, 2]) == Place(1 - busy, kept=40, source=busy)


def test_what_is_not_read_yet_cannot_be_copied() -> None:
    slots = Slots(2, can_rewind=True)
    slots.take([*SYSTEM, 1])
    assert slots.take([*SYSTEM, 2]).kept == 0


def test_a_few_words_in_common_are_no_reason_to_stay() -> None:
    slots = left(SYSTEM[: COMMON_MIN - 1] + [1] * 90, [])
    assert slots.take(SYSTEM) == Place(1)


def test_the_slot_that_was_used_least_lately_is_given_up_first() -> None:
    slots = left([1] * 30, [2] * 30, [3] * 30)
    assert slots.take([9] * 30) == Place(0)


def test_a_model_that_cannot_forget_an_end_goes_on_with_whole_sequences_only() -> None:
    assert left(SYSTEM, [], can_rewind=False).take([*SYSTEM, 1]) == Place(0, kept=50)
    assert left([*SYSTEM, 9], [], can_rewind=False).take([*SYSTEM, 1]).kept == 0


def test_who_may_not_reuse_gets_the_emptiest_slot() -> None:
    assert left(SYSTEM, []).take(SYSTEM, may_reuse=False) == Place(1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.booleans()), max_size=40))
def test_no_slot_is_given_twice_and_what_is_kept_is_what_the_prompt_begins_with(
    requests: list[tuple[int, int, bool]],
) -> None:
    slots = Slots(3, can_rewind=True)
    contents: dict[int, list[int]] = {number: [] for number in range(3)}
    taken: list[int] = []
    for kind, length, is_leaving in requests:
        if taken and (is_leaving or len(taken) == 3):
            number = taken.pop(0)
            slots.leave(number, contents[number])
        prompt = [*SYSTEM[: length // 2], *[kind] * (length - length // 2)]
        place = slots.take(prompt)
        assert place.slot not in taken
        held = contents[place.slot if place.source is None else place.source]
        assert held[: place.kept] == prompt[: place.kept]
        assert place.kept < len(prompt)
        taken.append(place.slot)
        contents[place.slot] = prompt
        slots.advance(place.slot, len(prompt))
