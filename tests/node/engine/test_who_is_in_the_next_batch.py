"""The scheduler: every stream moves at each step, and prompts take what time is left."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from node.engine.scheduler import BATCH_MAX, Scheduler, SchedulerConfig, Span

SPEED = 1000.0
"""Prefill tokens per second of the pretended machine: 400 a step alone, 100 a shared one."""


def scheduler(slots: int = 4, speed: float = SPEED) -> Scheduler:
    return Scheduler(SchedulerConfig(slots=slots), prefill_speed=speed)


def step(scheduler: Scheduler, speed: float = SPEED) -> list[Span]:
    """One step of a machine that prefills at `speed` and decodes in no time."""
    spans = scheduler.plan()
    prefilled = sum(len(span.tokens) for span in spans if span.tokens != (7,))
    scheduler.carried_out(spans, prefilled / speed)
    for span in spans:
        if span.wants_output:
            scheduler.sampled(span.id, 7)
    return spans


def sizes(spans: list[Span]) -> dict[int, int]:
    return {span.id: len(span.tokens) for span in spans}


def test_a_prompt_is_read_in_order_and_then_decoded() -> None:
    subject = scheduler()
    subject.admit(1, range(500), credit=9)
    assert step(subject) == [Span(1, 0, 0, range(400), wants_output=False)]
    assert step(subject) == [Span(1, 0, 400, range(400, 500), wants_output=True)]
    assert step(subject) == [Span(1, 0, 500, (7,), wants_output=True)]


def test_a_stream_moves_at_every_step_while_a_long_prompt_is_read() -> None:
    subject = scheduler()
    subject.admit(1, [0], credit=99)
    step(subject)
    subject.admit(2, range(350), credit=9)
    assert [sizes(step(subject)) for _ in range(5)] == [
        {1: 1, 2: 100},
        {1: 1, 2: 100},
        {1: 1, 2: 100},
        {1: 1, 2: 50},
        {1: 1, 2: 1},
    ]


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    subject = scheduler()
    subject.admit(1, range(4000), credit=9)
    subject.admit(2, range(30), credit=9)
    assert sizes(step(subject)) == {1: 370, 2: 30}


def test_prompts_share_a_step_evenly() -> None:
    subject = scheduler()
    subject.admit(1, range(4000), credit=9)
    subject.admit(2, range(4000), credit=9)
    assert sizes(step(subject)) == {1: 200, 2: 200}


def test_a_slow_machine_reads_less_per_step() -> None:
    subject = scheduler()
    subject.admit(1, range(4000), credit=9)
    step(subject, speed=100)
    assert sizes(step(subject, speed=100)) == {1: 40}


def test_a_prompt_too_small_to_measure_does_not_make_the_engine_slow() -> None:
    subject = scheduler()
    subject.admit(1, range(5), credit=9)
    spans = subject.plan()
    subject.carried_out(spans, 0.1)
    subject.admit(2, range(4000), credit=9)
    assert sizes(subject.plan()) == {2: 400}


def test_a_step_never_carries_more_than_the_engine_can_take() -> None:
    subject = scheduler(speed=1e9)
    subject.admit(1, range(4000), credit=9)
    assert sizes(subject.plan()) == {1: BATCH_MAX - 4}


def test_a_sequence_without_credit_pauses_alone() -> None:
    subject = scheduler()
    subject.admit(1, [0], credit=1)
    subject.admit(2, [0], credit=9)
    step(subject)
    assert sizes(step(subject)) == {2: 1}
    subject.grant(1, 1)
    assert sizes(step(subject)) == {1: 1, 2: 1}


def test_without_credit_anywhere_there_is_no_work() -> None:
    subject = scheduler()
    subject.admit(1, [0], credit=1)
    step(subject)
    assert not subject.has_work
    assert subject.plan() == []


def test_a_removed_sequence_gives_its_seat_to_the_next() -> None:
    subject = scheduler(slots=1)
    subject.admit(1, range(9), credit=9)
    assert not subject.has_free_slot
    subject.remove(1)
    assert subject.admit(2, range(9), credit=9) == 0


@given(st.integers(0, 2**32))
def test_every_sequence_gets_each_of_its_tokens_once_and_ends(seed: int) -> None:
    rng = Random(seed)
    subject = scheduler(slots=3, speed=rng.choice([1, 50, 3000]))
    prompts = {number: range(rng.randint(1, 300)) for number in range(3)}
    read: dict[int, list[int]] = {number: [] for number in prompts}
    decoded = dict.fromkeys(prompts, 0)
    for number, prompt in prompts.items():
        subject.admit(number, prompt, credit=5)
    for _ in range(1000):
        if not subject.has_work:
            break
        spans = subject.plan()
        assert spans, "work, and nothing planned"
        assert len({span.id for span in spans}) == len(spans)
        subject.carried_out(spans, rng.uniform(0.0, 0.2))
        for span in spans:
            assert span.position == len(read[span.id]) + decoded[span.id]
            if len(read[span.id]) < len(prompts[span.id]):
                read[span.id] += span.tokens
            else:
                decoded[span.id] += 1
            if span.wants_output:
                subject.sampled(span.id, 0)
    assert read == {number: list(prompt) for number, prompt in prompts.items()}
    assert decoded == dict.fromkeys(prompts, 4)
