"""What a worker may say when, and how much of it before it is granted more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.infer import (
    CHUNK_MERGED_LENGTH_MAX,
    CHUNK_MERGED_TOKENS_MAX,
    CREDIT_MAX,
    Accepted,
    AnswerOrder,
    Failure,
    Refusal,
    WorkerMessage,
    merged,
)
from p2p.errors import BadFrame

ACCEPTED = Accepted(bytes(32), 3)
CHUNK = Chunk(0, (1,), "a")
PROGRESS = Progress(1, 2)
DONE = Done(("stop",), Usage(1, 1), Timings())
REFUSAL = Refusal("busy", "no slot")
FAILURE = Failure("the engine died")


@pytest.mark.parametrize(
    "messages",
    [
        [ACCEPTED, CHUNK, PROGRESS, CHUNK, DONE],
        [PROGRESS, ACCEPTED, DONE],
        [PROGRESS, REFUSAL],
        [ACCEPTED, FAILURE],
    ],
)
def test_the_drawn_orders_are_allowed(messages: list[WorkerMessage]) -> None:
    order = AnswerOrder()
    for message in messages:
        assert not order.is_over
        order.check(message)
    assert order.is_over


@pytest.mark.parametrize(
    "messages",
    [
        [CHUNK],
        [DONE],
        [FAILURE],
        [ACCEPTED, ACCEPTED],
        [ACCEPTED, REFUSAL],
        [ACCEPTED, DONE, DONE],
        [ACCEPTED, DONE, PROGRESS],
        [ACCEPTED, FAILURE, CHUNK],
        [REFUSAL, ACCEPTED],
    ],
)
def test_anything_else_is_out_of_turn(messages: list[WorkerMessage]) -> None:
    order = AnswerOrder()
    for message in messages[:-1]:
        order.check(message)
    with pytest.raises(BadFrame):
        order.check(messages[-1])


def test_a_chunk_without_credit_is_refused() -> None:
    order = AnswerOrder()
    order.check(ACCEPTED)
    for _ in range(CREDIT_MAX):
        order.check(CHUNK)
    with pytest.raises(BadFrame, match="credit"):
        order.check(CHUNK)


def test_credit_comes_back_as_chunks_are_read() -> None:
    order = AnswerOrder()
    order.check(ACCEPTED)
    granted = 0
    for _ in range(10 * CREDIT_MAX):
        order.check(CHUNK)
        granted += order.grant()
        assert order.credit >= CREDIT_MAX // 2
    assert granted == 10 * CREDIT_MAX


chunks = st.builds(
    Chunk,
    choice=st.integers(0, 1),
    token_ids=st.lists(st.integers(0, 9), max_size=CHUNK_MERGED_TOKENS_MAX).map(tuple),
    text=st.text("ab🙂", max_size=8) | st.just("x" * (CHUNK_MERGED_LENGTH_MAX - 4)),
)


@given(chunks, chunks)
def test_merging_two_chunks_loses_nothing_and_stays_small(first: Chunk, second: Chunk) -> None:
    both = merged(first, second)
    if both is None:
        return
    assert both == Chunk(first.choice, first.token_ids + second.token_ids, first.text + second.text)
    assert second.choice == first.choice
    assert len(both.token_ids) <= CHUNK_MERGED_TOKENS_MAX
    assert len(both.text) <= CHUNK_MERGED_LENGTH_MAX


def test_chunks_of_two_choices_are_never_merged() -> None:
    assert merged(Chunk(0, (1,), "a"), Chunk(1, (2,), "b")) is None
