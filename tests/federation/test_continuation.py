"""What is kept of an answer, and when nobody could go on with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Constraint,
    Delivered,
    Done,
    FinishReason,
    InferenceRequest,
    RequestId,
    Resume,
    Routing,
    Timings,
    ToolCallDelta,
    Usage,
)
from federation.continuation import KEPT_TEXT_MAX, KEPT_TOKENS_MAX, Continuation
from ledger.records import ModelName
from p2p.peer import PeerId

HASH, FILE = b"h" * 32, "f" * 64
NO_PROMPT = bytes(32)
REQUEST = InferenceRequest("chat", RequestId("r"), ModelName("tiny"), choices=2, max_tokens=9)


async def nothing() -> AsyncGenerator[AnswerEvent]:
    yield Done((), Usage(0, 0), Timings())


def answer(prompt_sha256: bytes = HASH) -> Answer:
    return Answer(PeerId("a"), prompt_sha256, 5, nothing())


def continuation(request: InferenceRequest = REQUEST, sha256: str = FILE) -> Continuation:
    begun = Continuation(request)
    begun.accepted(request, answer(), sha256)
    return begun


def test_the_rest_is_asked_of_whoever_has_the_same_file() -> None:
    begun = continuation()
    begun.note(Chunk(0, (1, 2), "ab"))
    begun.note(Chunk(1, (3,), "c"))
    begun.note(Chunk(0, (4,), "d", finish_reason="stop"))
    delivered = (Delivered((1, 2, 4), "stop"), Delivered((3,)))
    assert begun.onward() == replace(
        REQUEST, model=ModelName(f"tiny@sha256:{FILE}"), resume=Resume(HASH, delivered)
    )


def test_what_itself_goes_on_with_another_answer_is_added_to_it() -> None:
    resume = Resume(HASH, (Delivered((1,)), Delivered((2,), "length")))
    begun = continuation(replace(REQUEST, resume=resume))
    begun.note(Chunk(0, (3,), "c"))
    resumed = begun.onward().resume
    assert resumed == Resume(HASH, (Delivered((1, 3)), Delivered((2,), "length")))


def test_a_file_whose_hash_comes_later_can_be_gone_on_with() -> None:
    begun = continuation(sha256="")
    assert begun.obstacle()
    begun.identified(FILE)
    assert begun.obstacle() == ""
    begun.identified("e" * 64)
    assert begun.onward().model.endswith(FILE)


def test_without_token_ids_nobody_goes_on_unless_the_client_allows_it() -> None:
    begun = Continuation(REQUEST)
    begun.accepted(REQUEST, answer(NO_PROMPT), FILE)
    assert "did not allow" in begun.obstacle()


BY_TEXT = InferenceRequest(
    "completion",
    RequestId("r"),
    ModelName("tiny"),
    prompt="one",
    max_tokens=9,
    routing=Routing(resumes_by_text=True),
)


def begun_without_ids(request: InferenceRequest = BY_TEXT) -> Continuation:
    begun = Continuation(request)
    begun.accepted(request, answer(NO_PROMPT), "")
    for text in (" two", " three"):
        begun.note(Chunk(0, (), text))
    return begun


def test_by_text_another_server_reads_what_was_delivered_as_its_prompt() -> None:
    begun = begun_without_ids()
    onward = begun.onward()
    assert onward == replace(BY_TEXT, prompt="one two three", max_tokens=7)
    begun.accepted(onward, answer(NO_PROMPT), "")
    begun.note(Chunk(0, (), " four"))
    assert begun.tokens == 3
    assert begun.onward() == replace(BY_TEXT, prompt="one two three four", max_tokens=6)
    assert begun.whole(Done(("stop",), Usage(6, 1, 5), Timings())).usage == Usage(4, 3, 4)


def test_by_text_a_chat_goes_on_in_its_last_message() -> None:
    asked = {"role": "user", "content": "count"}
    request = replace(BY_TEXT, kind="chat", prompt="", messages=(asked,))
    begun = begun_without_ids(request)
    onward = begun.onward()
    said = {"role": "assistant", "content": " two three"}
    assert onward == replace(request, messages=(asked, said), is_begun=True, max_tokens=7)
    begun.accepted(onward, answer(NO_PROMPT), "")
    begun.note(Chunk(0, (), " four"))
    assert begun.onward().messages == (asked, {"role": "assistant", "content": " two three four"})


def test_by_text_what_nothing_came_of_is_asked_as_it_was() -> None:
    for request in (BY_TEXT, replace(BY_TEXT, kind="chat", prompt="", messages=({"role": "user"},))):
        begun = Continuation(request)
        begun.accepted(request, answer(NO_PROMPT), "")
        assert begun.onward() == request


@pytest.mark.parametrize("more", [{"reasoning": "hm"}, {"tool_calls": (ToolCallDelta(0, "c", "f"),)}])
def test_by_text_no_thought_and_no_call_is_gone_on_with(more: dict[str, Any]) -> None:
    begun = begun_without_ids(replace(BY_TEXT, kind="chat", messages=({"role": "user"},)))
    begun.note(Chunk(0, (), "", **more))
    assert "plain answer" in begun.obstacle()


def test_an_engine_of_ours_that_goes_on_by_text_is_gone_on_with_by_ids() -> None:
    begun = begun_without_ids()
    onward = begun.onward()
    begun.accepted(onward, answer(HASH), FILE)
    begun.note(Chunk(0, (1, 2), " four"))
    assert begun.onward() == replace(
        onward,
        model=ModelName(f"tiny@sha256:{FILE}"),
        resume=Resume(HASH, (Delivered((1, 2)),)),
    )
    assert begun.tokens == 4


def test_by_text_nothing_more_is_asked_for_than_was_at_first() -> None:
    begun = begun_without_ids(replace(BY_TEXT, max_tokens=2))
    assert begun.ended() == Done(("length",), Usage(5, 2), Timings())


@pytest.mark.parametrize(
    "change",
    [
        {"tools": ({"type": "function"},)},
        {"prompt": (1, 2)},
        {"choices": 2},
        {"constraint": Constraint("json_object")},
        {"top_logprobs": 0},
        {"suffix": "end"},
        {"is_echoed": True},
    ],
)
def test_by_text_only_one_plain_answer_is_gone_on_with(change: dict[str, Any]) -> None:
    assert "plain answer" in begun_without_ids(replace(BY_TEXT, **change)).obstacle()


def test_the_text_that_is_kept_is_bounded() -> None:
    begun = begun_without_ids()
    begun.note(Chunk(0, (), "x" * KEPT_TEXT_MAX))
    assert str(KEPT_TEXT_MAX) in begun.obstacle()


def test_what_has_no_tokens_is_not_gone_on_with() -> None:
    assert continuation(replace(REQUEST, kind="embeddings")).obstacle()


def test_what_is_kept_is_bounded() -> None:
    begun = continuation()
    begun.note(Chunk(0, (1,) * KEPT_TOKENS_MAX, "a"))
    assert begun.obstacle() == ""
    begun.note(Chunk(1, (1,), "a"))
    assert str(KEPT_TOKENS_MAX) in begun.obstacle()
    for _ in range(3):
        begun.note(Chunk(1, (1,) * KEPT_TOKENS_MAX, "a"))
    assert begun.tokens == 4 * KEPT_TOKENS_MAX + 1
    assert sum(len(choice.token_ids) for choice in begun._choices) == KEPT_TOKENS_MAX + 1


def test_where_only_the_end_is_missing_nobody_need_be_asked() -> None:
    begun = continuation()
    begun.note(Chunk(0, (1, 2), "ab", finish_reason="length"))
    assert begun.ended() is None
    begun.note(Chunk(1, (3,), "c", finish_reason="tool_calls"))
    assert begun.ended() == Done(("length", "tool_calls"), Usage(5, 3), Timings())


@pytest.mark.parametrize("said", ["stop", "length"])
def test_a_choice_ends_for_the_reason_its_client_was_told(said: FinishReason) -> None:
    begun = continuation()
    begun.note(Chunk(1, (1,), "a", finish_reason="tool_calls"))
    done = Done((said, said), Usage(5, 7, 2), Timings(1, 2, 3))
    assert begun.whole(done) == replace(done, finish_reasons=(said, "tool_calls"))
