"""Each parameter of each endpoint, wrong in each way it can be: 400 that names it, and nobody was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from api.body_types import ModelBody
from api.chat_body import ChatBody
from api.completion_body import CompletionBody
from api.embeddings import EmbeddingsBody
from api.rerank import RerankBody
from api.tokens import DetokenizeBody, TokenizeBody
from federation.errors import BadRequest, ContextTooLong

if TYPE_CHECKING:
    from tests.api.conftest import Bench

NAN = float("nan")
TOOL = {"type": "function", "function": {"name": "f"}}
USER = {"role": "user", "content": "Hi"}
ASKS_FOR_JSON = {"type": "json_object"}

BODIES: Mapping[str, tuple[type[ModelBody], dict[str, Any]]] = {
    "chat/completions": (ChatBody, {"model": "stub", "messages": [USER]}),
    "completions": (CompletionBody, {"model": "stub", "prompt": "x"}),
    "embeddings": (EmbeddingsBody, {"model": "stub", "input": "x"}),
    "rerank": (RerankBody, {"model": "stub", "query": "x", "documents": ["y"]}),
    "tokenize": (TokenizeBody, {"model": "stub", "content": "x"}),
    "detokenize": (DetokenizeBody, {"model": "stub", "tokens": [1]}),
}

WRONG: Mapping[str, tuple[Any, ...]] = {
    "model": (None, 3, "", "x" * 257, ["stub"], "\ud800"),
    "messages": (None, [], {}, "Hi", [3], [{}], [{**USER, "role": "king"}], [{**USER, "content": 3}]),
    "prompt": (None, {}, 3, [], [1.5], [-1], [2**31], ["a", 1], [["a"]], "\ud800"),
    "input": (None, {}, 3, "", [], [""], [[]], [1.5], [-1], ["a", 1], "\ud800"),
    "query": (None, "", 3, ["a"], "\ud800"),
    "documents": (None, [], "a", [3], [None], [{}], [{"text": 3}], ["\ud800"], ["a"] * 2049),
    "content": (None, 3, ["a"], "\ud800"),
    "tokens": (None, 3, "a", [-1], [2**31], [1.5], ["1"], [True]),
    "temperature": (-0.1, 2.1, NAN, "1", [1], True),
    "top_p": (-0.1, 1.1, NAN, "1", True),
    "top_k": (-1, 1.5, 2**31, "1", True),
    "min_p": (-0.1, 1.1, NAN, "1"),
    "typical_p": (-0.1, 1.1, NAN, "1"),
    "repeat_penalty": (0, -1, 10.1, NAN, "1"),
    "repetition_penalty": (0, -1, 10.1, NAN, "1"),
    "repeat_last_n": (-2, 1.5, 2**31, "1"),
    "presence_penalty": (-2.1, 2.1, NAN, "1"),
    "frequency_penalty": (-2.1, 2.1, NAN, "1"),
    "logit_bias": ([], "x", {"x": 1}, {"-1": 1}, {"1": 101}, {"1": "1"}, {"1": NAN}, {"2147483648": 1}),
    "seed": (1.5, "1", True, 2**63, -(2**63) - 1, 10**400),
    "response_format": ("json", [], {}, {"type": "xml"}, {"type": "json_schema"}),
    "grammar": (3, ["x"], "\ud800", "x" * (2**18 + 1)),
    "json_schema": (3, "{}", [], {"const": NAN}, {"const": "\ud800"}, {"const": 10**30}),
    "stream": ("yes", 1, []),
    "stream_options": (True, {"include_usage": 1}, {"include_usage": True}),
    "max_tokens": (0, -1, 1.5, "5", True, 2**31, 10**400),
    "max_completion_tokens": (0, -1, 1.5, "5", True, 2**31),
    "n": (0, -1, 129, 1.5, "2", True),
    "best_of": (0, 129, "2", 2),
    "stop": (3, {}, [3], ["x"] * 17, "x" * 1025, "\ud800"),
    "ignore_eos": (1, "no"),
    "tools": ({}, "f", [3], [{}], [TOOL, TOOL], [TOOL] * 129, [{**TOOL, "type": "custom"}]),
    "tool_choice": ("always", 3, "required", TOOL, {"type": "function"}),
    "parallel_tool_calls": (1, "no"),
    "functions": ({}, [3], [{}], [{"name": "two words"}]),
    "function_call": ("required", 3, {}, {"name": "f"}),
    "logprobs": ("yes", -1, 6, []),
    "top_logprobs": (-1, 21, "3", True, 3),
    "echo": ("yes", 1),
    "suffix": (3, "\ud800"),
    "encoding_format": ("int8", 3, []),
    "dimensions": (0, -1, 2**16 + 1, "64", True),
    "top_n": (0, -1, "2", True),
    "return_documents": (1, "yes"),
    "add_special": (1, "yes"),
}
"""Values that are of the wrong type, out of range, or want something else that is not there."""

CASES = [
    pytest.param(path, name, value, id=f"{path}-{name}-{index}")
    for path, (body, _) in BODIES.items()
    for name in body.model_fields
    for index, value in enumerate(WRONG[name])
]


@pytest.mark.parametrize(("path", "name", "value"), CASES)
def test_a_wrong_value_is_refused_by_name(bench: Bench, path: str, name: str, value: Any) -> None:
    reply = bench.call("POST", f"/v1/{path}", {**BODIES[path][1], name: value})
    assert reply.status == 400
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(name)
    assert error["param"] in error["message"]
    assert bench.backend.requests == []


@pytest.mark.parametrize("path", BODIES)
def test_the_body_they_are_added_to_is_right(bench: Bench, path: str) -> None:
    bench.call("POST", f"/v1/{path}", BODIES[path][1])
    assert len(bench.backend.requests) == 1


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("chat/completions", {"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
    ("chat/completions", {"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repetition_penalty"),
    ("chat/completions", {"stream": False, "stream_options": {}}, "stream_options"),
    ("chat/completions", {"n": 2, "best_of": 3}, "best_of"),
    ("chat/completions", {"logprobs": False, "top_logprobs": 2}, "top_logprobs"),
    ("chat/completions", {"response_format": ASKS_FOR_JSON, "grammar": "root ::= x"}, "grammar"),
    ("chat/completions", {"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
    (
        "chat/completions",
        {"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": {}}}},
        "response_format.json_schema",
    ),
    ("chat/completions", {"tools": [TOOL], "grammar": "root ::= x"}, "grammar"),
    (
        "chat/completions",
        {"tools": [TOOL], "tool_choice": {**TOOL, "function": {"name": "g"}}},
        "tool_choice",
    ),
    ("chat/completions", {"tools": [], "tool_choice": "required"}, "tool_choice"),
    ("chat/completions", {"tools": [TOOL], "functions": [{"name": "g"}]}, "functions"),
    ("completions", {"echo": True, "suffix": "z"}, "echo"),
    ("completions", {"echo": True, "logprobs": 1}, "logprobs"),
    ("completions", {"prompt": ["a"] * 65, "n": 2}, "prompt"),
]


@pytest.mark.parametrize(("path", "said", "param"), CONTRADICTIONS)
def test_what_contradicts_itself_is_refused_by_name(
    bench: Bench, path: str, said: dict[str, Any], param: str
) -> None:
    reply = bench.call("POST", f"/v1/{path}", {**BODIES[path][1], **said})
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)
    assert bench.backend.requests == []


UNSUPPORTED = [
    pytest.param(path, name, id=f"{path}-{name}")
    for path, (body, _) in BODIES.items()
    for name in (*body.not_yet, *body.elsewhere)
]


@pytest.mark.parametrize(("path", "name"), UNSUPPORTED)
def test_what_would_change_the_answer_and_cannot_is_refused_by_name(
    bench: Bench, path: str, name: str
) -> None:
    body, smallest = BODIES[path]
    reply = bench.call("POST", f"/v1/{path}", {**smallest, name: ["something"]})
    error = reply.json()["error"]
    assert (reply.status, error["param"], error["code"]) == (400, name, "unsupported_parameter")
    assert bench.backend.requests == []
    for neutral in ({**body.not_yet, **body.elsewhere})[name]:
        bench.call("POST", f"/v1/{path}", {**smallest, name: neutral})
    assert len(bench.backend.requests) == len({**body.not_yet, **body.elsewhere}[name])


SCHEMA = {"name": "x", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("path", "said", "found", "told"),
    [
        ("chat/completions", {}, "messages[0].role", "messages[0].role"),
        ("chat/completions", {}, "max_tokens", "max_tokens"),
        ("chat/completions", {"max_completion_tokens": 9}, "max_tokens", "max_completion_tokens"),
        ("chat/completions", {"json_schema": {}}, "response_format", "json_schema"),
        (
            "chat/completions",
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            "response_format",
            "response_format",
        ),
        (
            "chat/completions",
            {"tools": [TOOL]},
            "tools[0].function.parameters",
            "tools[0].function.parameters",
        ),
        (
            "chat/completions",
            {"functions": [{"name": f"f{number}"} for number in range(12)]},
            "tools[11].function.parameters",
            "functions[11].parameters",
        ),
        ("chat/completions", {"functions": [{"name": "f"}]}, "tools", "functions"),
        ("completions", {"logprobs": 1}, "top_logprobs", "logprobs"),
        ("completions", {"json_schema": {}}, "response_format", "json_schema"),
    ],
)
@pytest.mark.parametrize("error", [BadRequest, ContextTooLong])
def test_what_a_backend_finds_at_fault_is_called_as_the_client_did(
    bench: Bench, *, path: str, said: dict[str, Any], found: str, told: str, error: type[BadRequest]
) -> None:
    bench.backend.on_enter = error(f"{found} is wrong", param=found)
    reply = bench.call("POST", f"/v1/{path}", {**BODIES[path][1], **said})
    assert reply.status == 400
    assert reply.json()["error"]["param"] == told
    assert reply.json()["error"]["message"] == f"{told} is wrong"
