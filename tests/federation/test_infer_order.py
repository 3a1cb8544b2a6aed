"""What a worker may say when, and how much of it before it is granted more."""

from __future__ import annotations

import pytest

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.infer import (
    CREDIT_MAX,
    Accepted,
    AnswerOrder,
    Failure,
    Refusal,
    WorkerMessage,
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
