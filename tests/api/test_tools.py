"""Tools: how functions are described, how calls come back, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from federation.backend import Chunk, Done, ToolCallDelta
from federation.backend import Timings as Times
from federation.backend import Usage as Counts
from federation.infer import FRAME_SIZE_MAX, Request
from federation.infer_codec import decode_from_front_untrusted, encode
from federation.request_limits import NESTED_DEPTH_MAX, NESTED_VALUES_MAX, TOOLS_MAX
from p2p.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Of a city.", "parameters": PARAMETERS, "strict": True}
TOOL = {"type": "function", "function": FUNCTION}
OTHER = {"type": "function", "function": {"name": "time"}}


def test_tools_reach_the_backend_as_openai_says_them(bench: Bench) -> None:
    assert bench.chat(tools=[TOOL, OTHER], parallel_tool_calls=False).status == 200
    [request] = bench.backend.requests
    assert request.tools == (TOOL, OTHER)
    assert request.tool_choice == "auto"
    assert not request.allows_parallel_tool_calls


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "weather"}}, "function:weather"),
    ],
)
def test_a_tool_choice_is_a_word_or_a_name(bench: Bench, choice: Any, sent: str) -> None:
    assert bench.chat(tools=[TOOL], tool_choice=choice).status == 200
    assert bench.backend.requests[0].tool_choice == sent
    assert bench.backend.requests[0].allows_parallel_tool_calls


@pytest.mark.parametrize(
    ("call", "sent"), [(None, "auto"), ("none", "none"), ({"name": "weather"}, "function:weather")]
)
def test_functions_become_tools_of_which_one_is_called(bench: Bench, call: Any, sent: str) -> None:
    assert bench.chat(functions=[FUNCTION], function_call=call).status == 200
    [request] = bench.backend.requests
    assert (request.tools, request.tool_choice) == ((TOOL,), sent)
    assert not request.allows_parallel_tool_calls


@pytest.mark.parametrize("said", [{"tools": []}, {"functions": []}, {"tool_choice": "none"}, {"tools": None}])
def test_what_asks_for_no_tools_is_no_fault(bench: Bench, said: dict[str, Any]) -> None:
    assert bench.chat(**said).status == 200
    assert bench.backend.requests[0].tools == ()


def test_a_form_is_no_obstacle_where_nothing_is_called_or_the_form_is_openais(bench: Bench) -> None:
    assert bench.chat(tools=[TOOL], tool_choice="none", grammar='root ::= "x"').status == 200
    assert bench.chat(tools=[TOOL], response_format={"type": "json_object"}).status == 200
    assert [request.constraint is not None for request in bench.backend.requests] == [True, True]


def test_a_schema_of_arguments_arrives_as_it_was_written(bench: Bench) -> None:
    parameters = {
        "properties": {"x": {"default": None, "enum": [None, 1.5, True]}},
        "additionalProperties": False,
    }
    bench.chat(tools=[tool(parameters=parameters)])
    assert bench.backend.requests[0].tools[0]["function"]["parameters"] == parameters


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"properties": value}
    return value


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"function": FUNCTION}]}, "tools[0].type"),
        ({"tools": [tool(name="")]}, "tools[0].function.name"),
        ({"tools": [tool(name="two words")]}, "tools[0].function.name"),
        ({"tools": [tool(name="line\n")]}, "tools[0].function.name"),
        ({"tools": [tool(name="x" * 65)]}, "tools[0].function.name"),
        ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool(parameters=nested(NESTED_DEPTH_MAX))]}, "tools"),
        ({"tools": [tool(parameters={"enum": [0] * NESTED_VALUES_MAX})]}, "tools"),
        ({"tools": [tool(parameters={"maximum": float("inf")})]}, "tools"),
        ({"tools": [tool(parameters={"maximum": 10**30})]}, "tools"),
        ({"tools": [tool(parameters={"\ud800": 1})]}, "tools"),
        ({"tools": [tool(description=3)]}, "tools[0].function.description"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [tool(name=f"f{number}") for number in range(TOOLS_MAX + 1)]}, "tools"),
        ({"tools": TOOL}, "tools"),
        ({"tools": [TOOL], "functions": [FUNCTION]}, "functions"),
        ({"functions": [FUNCTION, FUNCTION]}, "functions[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": "auto", "function_call": "auto"}, "function_call"),
        ({"functions": [FUNCTION], "function_call": {"name": "f"}}, "function_call"),
        ({"functions": [FUNCTION], "function_call": "required"}, "function_call"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"tools": [TOOL], "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tools": [TOOL], "grammar": "root ::= x"}, "grammar"),
        ({"tools": [TOOL], "json_schema": {}}, "json_schema"),
        ({"functions": [FUNCTION], "json_schema": {"type": "object"}}, "json_schema"),
    ],
)
def test_a_wrong_tool_is_named_with_its_place(bench: Bench, said: dict[str, Any], param: str) -> None:
    reply = bench.chat(**said)
    assert reply.status == 400
    error = reply.json()["error"]
    assert error["param"].startswith(param)
    assert error["param"] in error["message"]
    assert bench.backend.requests == []


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
ANSWERING = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def test_calls_and_their_answers_are_part_of_the_conversation(bench: Bench) -> None:
    asking = {"role": "user", "content": "And Paris?"}
    assert bench.chat(messages=[asking, CALLING, ANSWERING]).status == 200
    assert bench.backend.requests[0].messages == (asking, CALLING, ANSWERING)


def test_an_old_function_call_is_a_call_that_its_function_answers(bench: Bench) -> None:
    called = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    answered = {"role": "function", "name": "weather", "content": "sunny"}
    assert bench.chat(messages=[called, answered]).status == 200
    first, second = bench.backend.requests[0].messages
    assert first["tool_calls"] == [{**CALL, "id": "call_weather"}]
    assert second == {
        "role": "tool",
        "name": "weather",
        "content": "sunny",
        "tool_call_id": "call_weather",
    }


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "content": None}, "messages[0].content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "messages[0].content"),
        ({"role": "user", "content": "", "tool_calls": [CALL]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "", "function_call": CALL["function"]}, "messages[0].function_call"),
        ({"role": "tool", "content": "sunny"}, "messages[0].tool_call_id"),
        ({"role": "tool", "tool_call_id": "c"}, "messages[0].content"),
        ({"role": "function", "content": "sunny"}, "messages[0].name"),
        ({**CALLING, "tool_calls": [{**CALL, "id": 7}]}, "messages[0].tool_calls[0].id"),
        ({**CALLING, "tool_calls": [{**CALL, "type": "custom"}]}, "messages[0].tool_calls[0].type"),
        (
            {**CALLING, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({**CALLING, "tool_calls": [CALL] * 129}, "messages[0].tool_calls"),
    ],
)
def test_a_wrong_call_is_named_with_its_place(bench: Bench, message: Any, param: str) -> None:
    reply = bench.chat(messages=[message])
    assert reply.status == 400
    assert reply.json()["error"]["param"] == param


def test_more_calls_than_can_travel_are_refused(bench: Bench) -> None:
    small = {"id": "c", "function": {"name": "f", "arguments": ""}}
    reply = bench.chat(messages=[{**CALLING, "tool_calls": [small] * 128}] * 400)
    assert (reply.status, reply.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(
    "extreme",
    [
        {"tools": [tool(name=f"f{number:0>63}", description="x") for number in range(TOOLS_MAX)]},
        {"tools": [tool(parameters={"enum": [0] * (NESTED_VALUES_MAX - 20)})]},
        {"tools": [tool(name="x" * 64, parameters=nested(NESTED_DEPTH_MAX - 5))]},
        {"messages": [CALLING, ANSWERING] * 8192},
        {"messages": [{**CALLING, "tool_calls": [{**CALL, "id": "x" * 256}] * 128}]},
    ],
)
def test_whatever_is_taken_can_be_sent_on_to_a_peer(bench: Bench, extreme: dict[str, Any]) -> None:
    assert bench.chat(**extreme).status == 200
    asked = encode(Request(bench.backend.requests[0]))
    encode_frame(asked, FRAME_SIZE_MAX)
    decode_from_front_untrusted(asked)


SECOND_CALL = ToolCallDelta(1, "call_2", "time", "{}")
SCRIPT = [
    Chunk(0, (1,), "", reasoning="They want"),
    Chunk(0, (2,), "", reasoning=" the weather."),
    Chunk(0, (3,), "", tool_calls=(ToolCallDelta(0, "call_1", "weather"),)),
    Chunk(0, (4,), "", tool_calls=(ToolCallDelta(0, arguments='{"city":'),)),
    Chunk(
        0,
        (5,),
        "",
        tool_calls=(ToolCallDelta(0, arguments=' "Paris"}'), ToolCallDelta(1, "call_2", "time", "{}")),
    ),
    Done(("tool_calls",), Counts(5, 5, 2), Times()),
]
CALLS = [CALL, {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]


def test_a_whole_answer_of_calls_has_no_content(new_bench: Callable[..., Bench]) -> None:
    body = new_bench(script=SCRIPT).chat(tools=[TOOL, OTHER]).json()
    ChatCompletion.model_validate(body, strict=True)
    [choice] = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "They want the weather.",
        "tool_calls": CALLS,
    }


def test_a_stream_of_calls_says_each_name_once_and_arguments_as_they_come(
    new_bench: Callable[..., Bench],
) -> None:
    *events, end = new_bench(script=SCRIPT).chat(tools=[TOOL, OTHER], stream=True).events()
    assert end == "[DONE]"
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "They want"},
        {"reasoning_content": " the weather."},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": ' "Paris"}'}},
                {
                    "index": 1,
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "time", "arguments": "{}"},
                },
            ]
        },
        {},
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_text_beside_calls_is_content(new_bench: Callable[..., Bench]) -> None:
    script = [Chunk(0, (1,), "One moment."), *SCRIPT[2:]]
    message = new_bench(script=script).chat(tools=[TOOL]).json()["choices"][0]["message"]
    assert message["content"] == "One moment."
    assert len(message["tool_calls"]) == 2
