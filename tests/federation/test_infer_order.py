"""What a worker may say when, and how much of it before it is granted more."""

from __future__ import annotations

from typing import Any

import pytest

from federation.backend import (
    Chunk,
    Done,
    FinishReason,
    InferenceRequest,
    Progress,
    RequestId,
    RequestKind,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from federation.infer import (
    ANSWER_LENGTH_MAX,
    CREDIT_MAX,
    Accepted,
    AnswerOrder,
    Failure,
    Refusal,
    WorkerMessage,
)
from ledger.records import ModelName
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


def ask(kind: RequestKind, **changes: Any) -> InferenceRequest:
    return InferenceRequest(kind, RequestId("r"), ModelName("tiny"), **changes)


@pytest.mark.parametrize(
    ("request_", "choices", "done"),
    [
        (ask("chat"), 1, ("stop",)),
        (ask("completion", choices=3), 3, ("stop", "length", "stop")),
        (ask("embeddings", inputs=("a", (1, 2))), 2, ()),
        (ask("rerank", prompt="q", inputs=("a", "b", "c")), 3, ()),
        (ask("tokenize", prompt="text"), 1, ()),
        (ask("detokenize", prompt=(1, 2)), 1, ()),
    ],
)
def test_chunks_are_of_what_was_asked_for_and_of_nothing_else(
    request_: InferenceRequest, choices: int, done: tuple[FinishReason, ...]
) -> None:
    order = AnswerOrder.of(request_)
    order.check(ACCEPTED)
    for choice in range(choices):
        order.check(Chunk(choice, (), ""))
    with pytest.raises(BadFrame, match="asked for"):
        order.check(Chunk(choices, (), ""))
    order.check(Done(done, Usage(1, 1), Timings()))
    assert order.is_over


@pytest.mark.parametrize("reasons", [(), ("stop",), ("stop", "stop", "stop")])
def test_every_choice_ends_for_one_reason(reasons: tuple[FinishReason, ...]) -> None:
    order = AnswerOrder.of(ask("chat", choices=2))
    order.check(ACCEPTED)
    with pytest.raises(BadFrame, match="asked for"):
        order.check(Done(reasons, Usage(1, 1), Timings()))


def test_more_tokens_than_were_asked_for_are_refused() -> None:
    order = AnswerOrder.of(ask("chat", choices=2, max_tokens=2))
    order.check(ACCEPTED)
    order.check(Chunk(0, (1, 2), "ab"))
    order.check(Chunk(1, (1, 2), "ab"))
    with pytest.raises(BadFrame, match="more than the 4 tokens"):
        order.check(Chunk(0, (3,), "c"))


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(0, (), "x" * 65536),
        Chunk(0, (), "", reasoning="x" * 65536),
        Chunk(0, (), "", tool_calls=(ToolCallDelta(0, arguments="x" * 65535),)),
        Chunk(0, (), "", tool_calls=(ToolCallDelta(0, "", "x" * 255),) * 256),
        Chunk(0, (), "", logprobs=(TokenLogprob(b"x", -1.0, ((b"y", -2.0),) * 15),) * 4096),
    ],
)
def test_text_without_end_is_refused(chunk: Chunk) -> None:
    order = AnswerOrder.of(ask("chat"))
    order.check(ACCEPTED)
    for _ in range(ANSWER_LENGTH_MAX // 65536):
        order.check(chunk)
        order.grant()
    with pytest.raises(BadFrame, match="without end"):
        order.check(chunk)
