"""Which parameters are taken, refused by name, or ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.body_types import TOKENS_MAX
from api.chat_body import MESSAGES_MAX, ChatBody
from api.completion_body import CompletionBody
from api.schema import NOT_YET, STOP_LENGTH_MAX, STOP_MAX
from federation.backend import InferenceRequest, Sampling
from federation.infer import FRAME_SIZE_MAX, Request
from federation.infer_codec import decode_from_front_untrusted, encode
from federation.request_limits import LOGIT_BIAS_MAX
from ledger.records import ModelName
from p2p.framing import encode_frame

if TYPE_CHECKING:
    from tests.api.conftest import Bench
    from tests.asgi import Reply

CHAT = "/v1/chat/completions"


def complete(bench: Bench, **body: Any) -> Reply:
    return bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "x", **body})


def test_every_supported_parameter_reaches_the_backend(bench: Bench) -> None:
    reply = bench.chat(
        max_tokens=10,
        temperature=0.5,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        typical_p=0.8,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        presence_penalty=-2,
        frequency_penalty=1.5,
        logit_bias={"7": -100, "50256": 0.5},
        seed=7,
        stop=["a", "b"],
        ignore_eos=True,
        n=3,
        best_of=3,
        logprobs=True,
        top_logprobs=20,
    )
    assert reply.status == 200
    [request] = bench.backend.requests
    assert request == InferenceRequest(
        kind="chat",
        request_id=request.request_id,
        model=ModelName("stub"),
        messages=({"role": "user", "content": "Hi"},),
        sampling=Sampling(
            temperature=0.5,
            top_k=40,
            top_p=0.9,
            min_p=0.05,
            typical_p=0.8,
            repeat_penalty=1.1,
            repeat_last_n=-1,
            presence_penalty=-2,
            frequency_penalty=1.5,
            logit_bias={7: -100, 50256: 0.5},
            seed=7,
        ),
        max_tokens=10,
        stop=("a", "b"),
        ignore_eos=True,
        choices=3,
        top_logprobs=20,
        is_streamed=False,
    )


def test_every_parameter_of_completions_reaches_the_backend(bench: Bench) -> None:
    assert complete(bench, prompt="a", suffix="z", logprobs=5, n=2).status == 200
    assert complete(bench, prompt="a", echo=True, logprobs=None).status == 200
    with_suffix, echoed = bench.backend.requests
    assert (with_suffix.suffix, with_suffix.top_logprobs, with_suffix.choices) == ("z", 5, 2)
    assert (echoed.is_echoed, echoed.top_logprobs) == (True, None)


@pytest.mark.parametrize(
    ("said", "top_logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 3}, 3),
    ],
)
def test_logprobs_of_a_chat_are_a_switch_and_a_number(
    bench: Bench, said: dict[str, Any], top_logprobs: int | None
) -> None:
    bench.chat(**said)
    assert bench.backend.requests[0].top_logprobs == top_logprobs


def test_the_repeat_penalty_has_two_names(bench: Bench) -> None:
    bench.chat(repetition_penalty=1.2)
    bench.chat(repetition_penalty=1.2, repeat_penalty=1.2)
    assert [request.sampling.repeat_penalty for request in bench.backend.requests] == [1.2, 1.2]
    assert bench.chat(repetition_penalty=1.2, repeat_penalty=1.3).json()["error"]["param"] == (
        "repetition_penalty"
    )


def test_no_bias_is_none(bench: Bench) -> None:
    bench.chat(logit_bias={})
    assert bench.backend.requests[0].sampling.logit_bias is None


def test_what_is_left_open_stays_open(bench: Bench) -> None:
    bench.chat(temperature=None, stop=None, stream=None)
    [request] = bench.backend.requests
    assert request.sampling.temperature is None
    assert request.max_tokens is None
    assert request.stop == ()


def test_the_length_of_a_chat_has_two_names(bench: Bench) -> None:
    bench.chat(max_completion_tokens=20)
    bench.chat(max_tokens=20, max_completion_tokens=20)
    assert [request.max_tokens for request in bench.backend.requests] == [20, 20]


def test_one_stop_string_is_a_list_of_one_and_empty_ones_are_ignored(bench: Bench) -> None:
    bench.chat(stop="END")
    bench.chat(stop=["", "END"])
    assert [request.stop for request in bench.backend.requests] == [("END",), ("END",)]


def test_text_parts_become_one_text(bench: Bench) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    bench.chat(messages=[{"role": "user", "content": parts}])
    assert bench.backend.requests[0].messages == ({"role": "user", "content": "one\ntwo"},)


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("text", "text"), (["text"], "text"), ([1, 2], (1, 2)), ([[1, 2]], (1, 2)), ("", "")],
)
def test_a_prompt_may_be_text_or_token_ids(bench: Bench, prompt: Any, sent: Any) -> None:
    assert bench.call("POST", "/v1/completions", {"model": "stub", "prompt": prompt}).status == 200
    assert bench.backend.requests[0].prompt == sent


@pytest.mark.parametrize(
    "parameter", ["user", "metadata", "store", "service_tier", "reasoning_effort", "made_up"]
)
def test_parameters_that_change_nothing_are_ignored(bench: Bench, parameter: str) -> None:
    assert bench.chat(**{parameter: "x"}).status == 200


@pytest.mark.parametrize("parameter", sorted(NOT_YET))
def test_parameters_that_would_change_the_answer_are_refused_by_name(bench: Bench, parameter: str) -> None:
    reply = bench.chat(**{parameter: ["something"]})
    assert reply.status == 400
    assert reply.json()["error"]["param"] == parameter
    assert reply.json()["error"]["code"] == "unsupported_parameter"
    assert bench.backend.requests == []


@pytest.mark.parametrize("parameter", sorted(NOT_YET))
def test_their_neutral_values_pass(bench: Bench, parameter: str) -> None:
    assert all(bench.chat(**{parameter: neutral}).status == 200 for neutral in NOT_YET[parameter])


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", float("nan")),
        ("top_p", 1.5),
        ("top_p", float("inf")),
        ("min_p", -1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", 2**31),
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_tokens", 10**30),
        ("max_completion_tokens", 0),
        ("seed", 2**63),
        ("seed", "7"),
        ("stop", 3),
        ("stop", ["x"] * 17),
        ("stop", "x" * 1025),
        ("stream", "yes"),
        ("stream", 1),
        ("ignore_eos", "no"),
        ("model", ""),
        ("model", None),
        ("model", "x" * 257),
        ("messages", []),
        ("messages", [{"role": "user", "content": ""}] * 16_385),
        ("messages", "Hi"),
        ("messages", None),
        ("stream_options", {"include_usage": True}),
        ("n", 0),
        ("n", 129),
        ("n", True),
        ("n", "2"),
        ("best_of", 2),
        ("typical_p", 1.1),
        ("repeat_penalty", 0),
        ("repeat_penalty", 11),
        ("repetition_penalty", -1),
        ("repeat_last_n", -2),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("frequency_penalty", float("nan")),
        ("logit_bias", [1]),
        ("logit_bias", {"Paris": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"²": 1}),
        ("logit_bias", {"2147483648": 1}),
        ("logit_bias", {"1" * 5000: 1}),
        ("logit_bias", {"7": 101}),
        ("logit_bias", {"7": True}),
        ("logit_bias", {"7": "1"}),
        ("logit_bias", {"7": float("nan")}),
        ("logit_bias", {f"{token}": 1 for token in range(LOGIT_BIAS_MAX + 1)}),
        ("logprobs", 3),
        ("logprobs", "yes"),
        ("top_logprobs", 3),
        ("top_logprobs", 21),
        ("top_logprobs", True),
        ("echo", True),
        ("suffix", "the end"),
    ],
)
def test_a_parameter_out_of_range_or_of_the_wrong_type_is_named(
    bench: Bench, parameter: str, value: Any
) -> None:
    reply = bench.chat(**{parameter: value})
    assert reply.status == 400
    assert reply.json()["error"]["param"] == parameter
    assert parameter in reply.json()["error"]["message"]
    assert bench.backend.requests == []


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 0, "echo": True}, "logprobs"),
        ({"echo": True, "suffix": "z"}, "echo"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": 3}, "suffix"),
        ({"suffix": "\ud800"}, "suffix"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_a_wrong_parameter_of_completions_is_named(bench: Bench, said: dict[str, Any], param: str) -> None:
    reply = complete(bench, **said)
    assert reply.status == 400
    assert reply.json()["error"]["param"] == param
    assert param in reply.json()["error"]["message"]
    assert bench.backend.requests == []


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "Hi"}, "messages[0].role"),
        ({"role": "king", "content": "Hi"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 3}, "messages[0].content"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0].type",
        ),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "messages[0].tool_calls[0].id"),
        ({"role": "user", "content": {"str": 1}}, "messages[0].content"),
        ({"role": "user", "content": "", "name": ""}, "messages[0].name"),
        ("Hi", "messages[0]"),
    ],
)
def test_a_bad_message_is_named_with_its_place(bench: Bench, message: Any, param: str) -> None:
    reply = bench.chat(messages=[message])
    assert reply.status == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "prompt", [["x"] * 129, [[1]] * 129, [], None, 3, [-1], [2**31], {"a": 1}, ["one", 2]]
)
def test_a_bad_prompt_is_named(bench: Bench, prompt: Any) -> None:
    reply = bench.call("POST", "/v1/completions", {"model": "stub", "prompt": prompt})
    assert reply.status == 400
    assert reply.json()["error"]["param"].startswith("prompt")


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (CompletionBody, {"prompt": [1.5] * 1000}),
        (CompletionBody, {"prompt": [[1.5] * 1000]}),
        (ChatBody, {"messages": [1] * 1000}),
        (ChatBody, {"messages": [{"role": "user", "content": [1] * 1000}]}),
        (ChatBody, {"messages": [{"role": "user", "content": "Hi"}], "stop": [1] * 1000}),
    ],
)
def test_a_long_list_of_faults_costs_no_more_than_its_first(
    model: type[ChatBody | CompletionBody], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"model": "stub", **wrong})
    assert refused.value.error_count() <= 5


@pytest.mark.parametrize(
    "extreme",
    [
        {"max_tokens": TOKENS_MAX, "top_k": TOKENS_MAX, "seed": 2**63 - 1, "temperature": 2, "top_p": 0},
        {"stop": ["\U0001f642" * STOP_LENGTH_MAX] * STOP_MAX, "seed": -(2**63)},
        {"messages": [{"role": "assistant", "content": "", "name": "x"}] * MESSAGES_MAX},
        {"model": "m" * 256},
        {"logit_bias": {f"{TOKENS_MAX - at}": -100 for at in range(LOGIT_BIAS_MAX)}, "n": 128},
        {"logprobs": True, "top_logprobs": 20, "repeat_last_n": TOKENS_MAX, "presence_penalty": -2},
    ],
)
def test_whatever_is_taken_can_be_sent_on_to_a_peer(bench: Bench, extreme: dict[str, Any]) -> None:
    assert bench.chat(**extreme).status == 200
    asked = encode(Request(bench.backend.requests[0]))
    encode_frame(asked, FRAME_SIZE_MAX)
    decode_from_front_untrusted(asked)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"text"', b"null", b"\xff\xfe{", b"[" * 100_000, b'{"model": NaN']
)
def test_what_is_no_json_object_is_400(bench: Bench, body: bytes) -> None:
    reply = bench.call("POST", CHAT, body=body)
    assert reply.status == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


TEXT = st.text(st.characters(codec=None), max_size=5)
"""Half surrogate pairs included: JSON can spell them."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    near_miss=st.dictionaries(
        st.sampled_from(
            [
                *("model", "messages", "stop", "stream_options", "prompt", "seed", "stream", "tools", "n"),
                *("tool_choice", "functions", "function_call", "response_format", "grammar", "json_schema"),
                *("logit_bias", "logprobs", "echo", "suffix", "best_of"),
            ]
        ),
        JSON,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_breaks_the_server(bench: Bench, near_miss: dict[str, Any]) -> None:
    assert bench.chat(**near_miss).status in (200, 400)
    assert bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "x", **near_miss}).status in (
        200,
        400,
    )


@given(
    path=st.sampled_from(["embeddings", "rerank", "tokenize", "detokenize"]),
    near_miss=st.dictionaries(
        st.sampled_from(["input", "dimensions", "query", "documents", "top_n", "content", "tokens"]), JSON
    ),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_question_breaks_the_server(bench: Bench, path: str, near_miss: dict[str, Any]) -> None:
    # 502: the stub's answer has no vectors.
    assert bench.call("POST", f"/v1/{path}", {"model": "stub", **near_miss}).status in (200, 400, 502)
