"""Streams in the shapes that servers send, read as events of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import (
    Chunk,
    Done,
    InferenceRequest,
    Progress,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from node.attached.answer_stream import AnswerStream
from node.attached.errors import BadAnswer, ErrorEvent
from tests.node.attached.requests import asking

MEASURED = Timings(0.0, 1.0, 2.0)


def delta(said: dict[str, Any], *, index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": said, "finish_reason": reason, **more}]}


def read(request: InferenceRequest, *events: Any) -> tuple[list[Chunk | Progress], Done]:
    """Everything that the stream of `events` brings."""
    reader = AnswerStream(request)
    said: list[Chunk | Progress] = [*reader.opening()]
    for event in events:
        said += reader.read(json.dumps(event))
    return said, reader.done(MEASURED)


def test_llama_server_tells_progress_usage_and_timings() -> None:
    progress = {"total": 30, "cache": 10, "processed": 20, "time_ms": 5}
    said, done = read(
        asking(),
        {"choices": [], "prompt_progress": progress},
        delta({"role": "assistant", "content": None}),
        delta({"content": "Hel"}),
        delta({"content": "lo"}),
        delta({}, reason="stop"),
        {
            "choices": [],
            "usage": {
                "completion_tokens": 3,
                "prompt_tokens": 30,
                "total_tokens": 33,
                "prompt_tokens_details": {"cached_tokens": 10},
            },
            "timings": {
                "cache_n": 10,
                "prompt_n": 20,
                "prompt_ms": 250.0,
                "predicted_n": 3,
                "predicted_ms": 60.0,
            },
        },
    )
    assert said == [Progress(20, 30), Chunk(0, (), "Hel"), Chunk(0, (), "lo")]
    assert done == Done(("stop",), Usage(30, 3, 10), Timings(0.0, 0.25, 0.06))


def test_ollama_reasons_and_sends_calls_whole() -> None:
    call = {
        "id": "call_1",
        "index": 0,
        "type": "function",
        "function": {"name": "look", "arguments": '{"a":1}'},
    }
    said, done = read(
        asking(),
        delta({"role": "assistant", "content": "", "reasoning": "hmm"}),
        delta({"role": "assistant", "content": "", "tool_calls": [call, {**call, "id": "call_2"}]}),
        # Some versions say "stop" here.
        delta({"role": "assistant", "content": ""}, reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}},
    )
    assert said == [
        Chunk(0, (), "", reasoning="hmm"),
        Chunk(
            0,
            (),
            "",
            tool_calls=(
                ToolCallDelta(0, "call_1", "look", '{"a":1}'),
                # Numbered 0 as well, with an id of its own: another call.
                ToolCallDelta(1, "call_2", "look", '{"a":1}'),
            ),
        ),
    ]
    assert done == Done(("tool_calls",), Usage(5, 9), MEASURED)


def test_vllm_streams_arguments_and_reasoning_content() -> None:
    first = {
        "id": "chatcmpl-tool-1",
        "type": "function",
        "index": 0,
        "function": {"name": "look", "arguments": ""},
    }
    said, done = read(
        asking(),
        delta({"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": []}),
        delta({"reasoning_content": "hm"}),
        delta({"tool_calls": [first]}),
        delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        delta({"tool_calls": [{**first, "function": {"name": "look", "arguments": ":1}"}}]}),
        delta({"content": ""}, reason="tool_calls", stop_reason=None),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "prompt_tokens_details": None}},
    )
    calls = [call for each in said if isinstance(each, Chunk) for call in each.tool_calls]
    assert said[0] == Chunk(0, (), "", reasoning="hm")
    assert calls == [
        ToolCallDelta(0, "chatcmpl-tool-1", "look", ""),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(0, arguments=":1}"),
    ]
    assert done.finish_reasons == ("tool_calls",)


def test_a_call_without_an_id_gets_one() -> None:
    said, _ = read(
        asking(),
        delta({"tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}),
        delta({}, reason="tool_calls"),
    )
    assert isinstance(said[0], Chunk)
    [call] = said[0].tool_calls
    assert call.id.startswith("call_")
    assert call.name == "look"


def test_lm_studio_sends_one_body_where_it_does_not_stream() -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm", "tool_calls": []}
    said, done = read(
        asking(),
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        },
    )
    assert said == [Chunk(0, (), "Hello", reasoning="hm")]
    assert done.usage == Usage(3, 1)


def test_a_server_that_counts_nothing_has_its_pieces_counted() -> None:
    _, done = read(
        asking(),
        delta({"role": "assistant"}),
        delta({"content": "a"}),
        delta({"content": "b"}, reason="length"),
    )
    assert done == Done(("length",), Usage(0, 2), MEASURED)


def test_several_choices_end_each_for_a_reason_of_its_own() -> None:
    said, done = read(
        asking(choices=2),
        delta({"content": "a"}, index=1),
        delta({"content": "b"}, index=0, reason="length"),
        delta({}, index=1, reason="stop"),
    )
    assert said == [Chunk(1, (), "a"), Chunk(0, (), "b")]
    assert done.finish_reasons == ("length", "stop")


@pytest.mark.parametrize(("counts_each_choice", "tokens"), [(True, 5), (False, 3)])
def test_tokens_of_several_choices_are_counted_by_choice_or_together(
    counts_each_choice: bool, tokens: int
) -> None:
    reader = AnswerStream(asking(choices=2), counts_each_choice=counts_each_choice)
    for event in (
        delta({"content": "a"}, index=0, reason="length"),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}},
        delta({"content": "b"}, index=1, reason="length"),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    ):
        reader.read(json.dumps(event))
    assert reader.done(MEASURED).usage == Usage(7, tokens)


def test_completions_bring_text_and_the_prompt_that_is_to_be_echoed() -> None:
    said, done = read(
        asking("completion", is_echoed=True),
        {"choices": [{"index": 0, "text": " upon", "logprobs": None, "finish_reason": None}]},
        {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
    )
    assert said == [Chunk(0, (), "once"), Chunk(0, (), " upon")]
    assert done.finish_reasons == ("length",)


def test_probabilities_come_in_two_forms() -> None:
    pair = {"token": "a", "logprob": -0.5, "bytes": [97]}
    chat = {"content": [{**pair, "top_logprobs": [pair, {"token": "é", "logprob": -2, "bytes": None}]}]}
    said, _ = read(asking(top_logprobs=1), delta({"content": "a"}, logprobs=chat, reason="stop"))
    likely = TokenLogprob(b"a", -0.5, ((b"a", -0.5),))
    assert said == [Chunk(0, (), "a", logprobs=(likely,))]
    completion = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"é": -2, "a": -0.5}]}
    said, _ = read(
        asking("completion", top_logprobs=2),
        {"choices": [{"index": 0, "text": "a", "logprobs": completion, "finish_reason": "stop"}]},
    )
    likely = TokenLogprob(b"a", -0.5, ((b"a", -0.5), ("é".encode(), -2.0)))
    assert said == [Chunk(0, (), "a", logprobs=(likely,))]


def test_probabilities_nobody_asked_for_are_left_out() -> None:
    said, _ = read(asking(), delta({"content": "a"}, logprobs={"content": "garbage"}, reason="stop"))
    assert said == [Chunk(0, (), "a")]


def test_half_a_surrogate_pair_leaves_as_text() -> None:
    reader = AnswerStream(asking())
    text = r'{"choices":[{"index":0,"delta":{"content":"a\ud83d b\ud83d\ude00"}}]}'
    assert reader.read(text) == [Chunk(0, (), "a� b😀")]


@pytest.mark.parametrize(
    "error",
    [{"message": "out of memory", "type": "server_error", "code": 500}, "out of memory"],
    ids=["object", "text"],
)
def test_an_error_in_the_stream_ends_it(error: object) -> None:
    with pytest.raises(ErrorEvent) as caught:
        read(asking(), {"error": error})
    assert caught.value.error == error


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "before the answer was complete"),
        ([delta({"content": "a"})], "before the answer was complete"),
        ([delta({"content": "a"}, reason="abort")], "broke the answer off"),
        ([delta({"content": "a"}, index=1)], "answer 2"),
        ([delta({"content": 5})], "content is not text"),
        ([delta({"tool_calls": [{"function": {"arguments": {}}}]})], "arguments are not text"),
        ([delta({"tool_calls": [{"function": {"name": "x" * 300}}]})], "too long"),
        ([delta({"tool_calls": [{"index": index} for index in range(200)]})], "more than 128 calls"),
        ([{"choices": {}}], "not a list"),
        (["text"], "not an object"),
    ],
)
def test_what_cannot_be_an_answer_is_the_servers_failure(events: list[Any], words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        read(asking(), *events)


def test_an_answer_that_is_missing_is_told_of() -> None:
    with pytest.raises(BadAnswer, match="after 1 of 2 answers"):
        read(asking(choices=2), delta({"content": "a"}, reason="stop"))


def test_an_answer_that_had_to_be_a_call_and_is_none_has_failed() -> None:
    request = asking(tools=({"type": "function", "function": {"name": "look"}},), tool_choice="required")
    with pytest.raises(BadAnswer, match="called nothing"):
        read(request, delta({"content": "sunny"}, reason="stop"))
    read(request, delta({"content": "sunn"}, reason="length"))


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000, '{"a":' + "1" * 5000 + "}", "\x00"])
def test_what_is_no_json_is_a_bad_answer(text: str) -> None:
    with pytest.raises(BadAnswer):
        AnswerStream(asking()).read(text)


NEAR_MISSES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "name",
                    "id",
                    "finish_reason",
                    "logprobs",
                    "tokens",
                    "token_logprobs",
                    "top_logprobs",
                    "token",
                    "bytes",
                    "logprob",
                    "usage",
                    "prompt_tokens",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "timings",
                    "prompt_ms",
                    "prompt_progress",
                    "processed",
                    "error",
                    "reasoning",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(event=NEAR_MISSES, kind=st.sampled_from(["chat", "completion"]))
def test_a_reader_fails_in_two_ways_only(event: object, kind: Any) -> None:
    reader = AnswerStream(asking(kind, top_logprobs=2))
    try:
        for said in reader.read(json.dumps({"choices": [event], "usage": event})):
            assert isinstance(said, Chunk | Progress)
    except (BadAnswer, ErrorEvent):
        pass
