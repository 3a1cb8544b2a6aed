"""The scheduler: every stream moves at each step, and prompts take what time is left.

A sequence is called by the number of its request, and sits in the slot of that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engine.scheduler import (
    BATCH_MAX,
    REPRODUCIBLE_CHUNK,
    TILE,
    Fork,
    Reading,
    Scheduler,
    SchedulerConfig,
    Span,
)

SPEED = 1000.0
"""Prefill tokens per second of the pretended machine: 400 a step alone, 100 a shared one."""
DECODE_SECONDS = 0.05
"""Of its steps that decode."""


def scheduler(slots: int = 4, speed: float = SPEED) -> Scheduler:
    return Scheduler(SchedulerConfig(slots=slots), prefill_speed=speed)


def step(scheduler: Scheduler, speed: float = SPEED) -> list[Span]:
    """One step of a machine that prefills at `speed`."""
    spans = scheduler.plan()
    reading = [len(span.tokens) for span in spans if list(span.tokens) != [7]]
    scheduler.carried_out(spans)
    scheduler.took(sum(reading) / speed + DECODE_SECONDS * (len(reading) < len(spans)))
    for span in spans:
        if scheduler.is_read(span.id):
            scheduler.sampled(span.id, 7)
    return spans


def took(subject: Scheduler, decode_seconds: float, speed: float = SPEED) -> float:
    """Seconds of one step of a machine that decodes in `decode_seconds`, whatever else it does."""
    spans = subject.plan()
    read = sum(len(span.tokens) for span in spans if list(span.tokens) != [7])
    seconds = read / speed + decode_seconds
    subject.carried_out(spans)
    subject.took(seconds)
    for span in spans:
        if subject.is_read(span.id):
            subject.sampled(span.id, 7)
    return seconds


def sizes(spans: list[Span]) -> dict[int, int]:
    return {span.id[0]: len(span.tokens) for span in spans}


def admit(subject: Scheduler, number: int, prompt: Sequence[int], *, credit: int = 9, **more: Any) -> None:
    subject.admit((number, 0), number, prompt, credit=credit, **more)


def test_a_prompt_is_read_in_order_and_then_decoded() -> None:
    subject = scheduler()
    admit(subject, 1, range(464))
    assert step(subject) == [Span((1, 0), 1, 0, range(400), wants_output=False)]
    assert step(subject) == [Span((1, 0), 1, 400, range(400, 464), wants_output=True)]
    assert step(subject) == [Span((1, 0), 1, 464, [7], wants_output=True)]


def test_a_stream_moves_at_every_step_while_a_long_prompt_is_read() -> None:
    subject = scheduler()
    admit(subject, 1, [0], credit=99)
    step(subject)
    admit(subject, 2, range(350))
    assert [sizes(step(subject)) for _ in range(5)] == [
        {1: 1, 2: 100},
        {1: 1, 2: 100},
        {1: 1, 2: 100},
        {1: 1, 2: 50},
        {1: 1, 2: 1},
    ]


@pytest.mark.parametrize("decode_seconds", [0.02, 0.05, 0.1])
def test_a_long_prompt_makes_the_gaps_of_the_others_three_times_as_long(decode_seconds: float) -> None:
    subject = scheduler()
    admit(subject, 1, [0], credit=99)
    for _ in range(40):
        took(subject, decode_seconds)
    admit(subject, 2, range(4000))
    assert [took(subject, decode_seconds) for _ in range(9)] == pytest.approx(
        [3 * decode_seconds] * 9, abs=0.001
    )


def test_beside_streams_a_fast_machine_is_found_out_step_by_step_though_nobody_ever_read_alone() -> None:
    subject = scheduler(speed=40)
    admit(subject, 1, [0], credit=99)
    subject.carried_out(subject.plan())
    subject.sampled((1, 0), 7)
    for _ in range(9):
        took(subject, DECODE_SECONDS)
    admit(subject, 2, range(4000))
    counts = [sizes(step(subject))[2] for _ in range(8)]
    assert counts == sorted(counts)
    assert counts[-1] == 100


def test_a_slow_machine_goes_on_reading_while_others_stream() -> None:
    subject = scheduler(speed=10)
    admit(subject, 1, [0], credit=99)
    for _ in range(40):
        took(subject, 2.0, speed=10)
    admit(subject, 2, range(4000))
    assert [took(subject, 2.0, speed=10) for _ in range(3)] == pytest.approx([2.4] * 3)


def test_many_who_come_in_turn_are_read_soon_though_little_is_known_of_the_machine() -> None:
    """Each that decodes makes a step longer: a scheduler that blamed the reading for it would crawl."""
    subject = Scheduler(SchedulerConfig(slots=16), prefill_speed=100.0, decode_seconds=0.01)
    steps = 0
    for number in range(16):
        admit(subject, number, range(40), credit=999)
        while subject.unfinished():
            took(subject, 0.01 * number)
            steps += 1
    assert steps < 60


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    subject = scheduler()
    admit(subject, 1, range(4000))
    admit(subject, 2, range(30))
    assert sizes(step(subject)) == {1: 370, 2: 30}


def test_prompts_share_a_step_evenly() -> None:
    subject = scheduler()
    admit(subject, 1, range(4000))
    admit(subject, 2, range(4000))
    assert sizes(step(subject)) == {1: 200, 2: 200}


def test_a_slow_machine_reads_less_per_step() -> None:
    subject = scheduler(speed=1000)
    admit(subject, 1, range(100 * TILE))
    step(subject, speed=60)
    assert sizes(step(subject, speed=60)) == {1: 24}


def test_a_machine_that_became_slow_reads_less_beside_streams() -> None:
    subject = scheduler()
    admit(subject, 1, [0], credit=99)
    for _ in range(40):
        took(subject, DECODE_SECONDS)
    admit(subject, 2, range(100 * TILE))
    assert sizes(subject.plan()) == {1: 1, 2: 100}
    took(subject, DECODE_SECONDS, speed=200)
    assert sizes(subject.plan()) == {1: 1, 2: 20}


def test_a_prompt_read_alone_goes_in_whole_tiles_and_what_makes_none_comes_first() -> None:
    subject = scheduler(speed=250)
    admit(subject, 1, range(4 * TILE + 28))
    assert [sizes(step(subject, speed=250))[1] for _ in range(4)] == [TILE + 28, TILE, TILE, TILE]


def test_a_machine_that_reads_a_tile_in_a_second_reads_no_less() -> None:
    subject = scheduler(speed=TILE)
    admit(subject, 1, range(100 * TILE))
    step(subject, speed=TILE)
    step(subject, speed=TILE)
    assert sizes(subject.plan()) == {1: TILE}


def test_prompts_that_nobody_streams_beside_share_a_tile() -> None:
    subject = scheduler(speed=TILE)
    admit(subject, 1, range(100 * TILE))
    step(subject, speed=TILE)
    admit(subject, 2, range(100 * TILE))
    assert sizes(subject.plan()) == {1: TILE // 2, 2: TILE // 2}


@pytest.mark.parametrize("guess", [1, 13, 40])
def test_a_first_long_prompt_is_read_in_whole_tiles_though_the_guess_was_far_too_slow(guess: float) -> None:
    subject = scheduler(speed=guess)
    admit(subject, 1, range(100 * TILE))
    first, second, *others = [sizes(step(subject, speed=150))[1] for _ in range(9)]
    assert first + second == TILE
    assert others == [TILE] * 7


def test_a_machine_that_read_a_tile_in_a_second_reads_tiles_however_long_it_is_disturbed() -> None:
    subject = scheduler(speed=250)
    admit(subject, 1, range(100 * TILE))
    step(subject, speed=250)
    assert [sizes(step(subject, speed=20))[1] for _ in range(5)] == [TILE] * 5


def test_how_slowly_few_tokens_are_read_beside_others_says_nothing_of_whole_tiles() -> None:
    subject = scheduler(speed=250)
    admit(subject, 2, range(100 * TILE))
    step(subject, speed=250)
    admit(subject, 1, [0], credit=99)
    for _ in range(9):
        took(subject, DECODE_SECONDS, speed=50)
    assert sizes(step(subject, speed=50)) == {1: 1, 2: 5}
    subject.remove((1, 0))
    step(subject, speed=250)
    assert sizes(step(subject, speed=20)) == {2: TILE}
    assert sizes(subject.plan()) == {2: TILE}


def test_a_slow_machine_finds_out_that_it_can_read_tiles() -> None:
    subject = scheduler(speed=30)
    admit(subject, 1, range(100 * TILE))
    assert [sizes(step(subject, speed=200))[1] for _ in range(4)] == [12, TILE - 12, TILE, TILE]


def test_a_prompt_too_small_to_measure_does_not_make_the_engine_slow() -> None:
    subject = scheduler()
    admit(subject, 1, range(5))
    subject.carried_out(subject.plan())
    subject.took(0.1)
    admit(subject, 2, range(400))
    assert sizes(subject.plan()) == {2: 400}


def test_a_step_never_carries_more_than_the_engine_can_take() -> None:
    subject = scheduler(speed=1e9)
    admit(subject, 1, range(8 * BATCH_MAX))
    assert sizes(subject.plan()) == {1: BATCH_MAX}


def test_a_sequence_without_credit_pauses_alone() -> None:
    subject = scheduler()
    admit(subject, 1, [0], credit=1)
    admit(subject, 2, [0])
    step(subject)
    assert sizes(step(subject)) == {2: 1}
    subject.grant((1, 0), 1)
    assert sizes(step(subject)) == {1: 1, 2: 1}


def test_without_credit_anywhere_there_is_no_work() -> None:
    subject = scheduler()
    admit(subject, 1, [0], credit=1)
    step(subject)
    assert not subject.has_work
    assert subject.plan() == []


def test_a_removed_sequence_leaves_what_is_in_the_context() -> None:
    subject = scheduler()
    admit(subject, 1, [5, 6])
    step(subject)
    step(subject)
    assert subject.remove((1, 0)) == [5, 6, 7]
    assert not subject.has_work


def test_what_the_slot_holds_already_is_not_read_again() -> None:
    subject = scheduler()
    admit(subject, 1, range(50), kept=30)
    assert step(subject) == [Span((1, 0), 1, 30, range(30, 50), wants_output=True)]


def test_other_choices_wait_until_the_prompt_is_read_and_go_on_from_a_copy() -> None:
    subject = scheduler()
    admit(subject, 1, range(500))
    subject.follow((1, 1), 2, (1, 0), credit=9)
    subject.carried_out(subject.plan())
    [span] = subject.plan()
    assert span.wants_output
    assert subject.carried_out([span]) == [Fork((1, 1), 2, (1, 0), 1, is_sampled=True)]
    for number in (0, 1):
        subject.sampled((1, number), 7)
    assert [(each.id, each.position) for each in subject.plan()] == [((1, 0), 500), ((1, 1), 500)]


def test_what_was_delivered_is_read_like_a_prompt_after_it() -> None:
    subject = scheduler()
    admit(subject, 1, [1, 2], reading=Reading(delivered=[3, 4]))
    assert step(subject) == [Span((1, 0), 1, 0, [1, 2, 3, 4], wants_output=True)]
    assert step(subject) == [Span((1, 0), 1, 4, [7], wants_output=True)]


def test_what_is_replayed_comes_one_at_a_step() -> None:
    subject = scheduler()
    admit(subject, 1, [1, 2], reading=Reading(delivered=[3, 4], is_replayed=True))
    assert [list(step(subject)[0].tokens) for _ in range(4)] == [[1, 2], [3], [4], [7]]


def test_choices_that_were_delivered_differently_share_the_prompt_alone() -> None:
    subject = scheduler()
    admit(subject, 1, [1, 2], reading=Reading(delivered=[3]))
    subject.follow((1, 1), 2, (1, 0), credit=9, reading=Reading(delivered=[4]))
    subject.follow((1, 2), 3, (1, 0), credit=9)
    [prompt] = subject.plan()
    assert (list(prompt.tokens), prompt.wants_output) == ([1, 2], True), "the third begins with its output"
    forks = subject.carried_out([prompt])
    assert [(fork.id, fork.is_sampled) for fork in forks] == [((1, 1), False), ((1, 2), True)]
    assert not subject.is_read((1, 0))
    assert {span.id: list(span.tokens) for span in subject.plan()} == {(1, 0): [3], (1, 1): [4]}


@pytest.mark.parametrize("speed", [1, 30, 500, 3000])
def test_where_the_same_must_come_out_twice_the_chunks_do_not_follow_the_speed(speed: float) -> None:
    subject = scheduler(speed=speed)
    admit(subject, 1, range(2 * REPRODUCIBLE_CHUNK + 3), reading=Reading(is_reproducible=True))
    assert [sizes(step(subject, speed))[1] for _ in range(3)] == [REPRODUCIBLE_CHUNK, REPRODUCIBLE_CHUNK, 3]


@pytest.mark.parametrize("speed", [1, 3000])
def test_choices_that_must_come_out_the_same_share_the_chunk(speed: float) -> None:
    subject = scheduler(speed=speed)
    delivered = Reading(delivered=range(100), is_reproducible=True)
    admit(subject, 1, [1, 2], reading=delivered)
    subject.follow((1, 1), 2, (1, 0), credit=9, reading=delivered)
    subject.carried_out(subject.plan())
    assert {span.id: len(span.tokens) for span in subject.plan()} == {(1, 0): 8, (1, 1): 8}


def test_beside_others_a_seed_takes_no_more_of_a_step_than_they_leave() -> None:
    subject = scheduler(speed=30)
    admit(subject, 1, [0])
    step(subject, speed=30)
    admit(subject, 2, range(100), reading=Reading(is_reproducible=True))
    assert sizes(subject.plan()) == {1: 1, 2: 3}


def test_a_replay_says_how_far_it_is() -> None:
    subject = scheduler()
    admit(subject, 1, [1, 2], reading=Reading(delivered=[3, 4], is_replayed=True))
    progress = []
    for _ in range(4):
        step(subject)
        progress += subject.unfinished()
    assert progress == [((1, 0), 2, 4), ((1, 0), 3, 4)]


@given(st.integers(0, 2**32))
def test_every_sequence_gets_each_of_its_tokens_once_and_ends(seed: int) -> None:
    rng = Random(seed)
    subject = scheduler(slots=3, speed=rng.choice([1, 50, 3000]))
    prompts = {number: range(rng.randint(1, 300)) for number in range(3)}
    read: dict[int, list[int]] = {number: [] for number in prompts}
    decoded = dict.fromkeys(prompts, 0)
    for number, prompt in prompts.items():
        admit(subject, number, prompt, credit=5)
    for _ in range(1000):
        if not subject.has_work:
            break
        spans = subject.plan()
        assert spans, "work, and nothing planned"
        assert len({span.id for span in spans}) == len(spans)
        subject.carried_out(spans)
        subject.took(rng.uniform(0.0, 0.2))
        for span in spans:
            number = span.id[0]
            assert span.position == len(read[number]) + decoded[number]
            if len(read[number]) < len(prompts[number]):
                read[number] += span.tokens
            else:
                decoded[number] += 1
            if span.wants_output:
                subject.sampled(span.id, 0)
    assert read == {number: list(prompt) for number, prompt in prompts.items()}
    assert decoded == dict.fromkeys(prompts, 4)
