from __future__ import annotations

from typing import Any

import pytest

from node.chat.errors import BadMessages
from node.chat.messages import check_messages
from node.chat.plain_prompt import PLAIN_STOPS, plain_prompt


def called(**changes: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [{**call, **changes}]}


def arguments_of(text: str) -> Any:
    (message,) = check_messages([called(function={"name": "f", "arguments": text})])
    return message["tool_calls"][0]["function"]["arguments"]


def test_roles_and_parts_become_what_templates_know() -> None:
    assert check_messages(
        [
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "name": "Ann",
            },
            {"role": "assistant", "content": None, "refusal": None, "tool_calls": None},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ]
    ) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\nb", "name": "Ann"},
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("text", "messages[1]"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": "wizard", "content": "x"}, "messages[1].role"),
        ({"role": ["user"], "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 3}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": "half \ud83d"}, "messages[1].content"),
        ({"role": "user", "content": "x", "name": 3}, "messages[1].name"),
        ({"role": "assistant", "tool_calls": {"id": "c1"}}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}] * 129}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": ["x"]}, "messages[1].tool_calls[0]"),
        (called(id=None), "messages[1].tool_calls[0].id"),
        (called(id="x" * 257), "messages[1].tool_calls[0].id"),
        (called(type="custom"), "messages[1].tool_calls[0].type"),
        (called(function="f"), "messages[1].tool_calls[0].function"),
        (called(function={"arguments": "{}"}), "messages[1].tool_calls[0].function.name"),
        (called(function={"name": "", "arguments": "{}"}), "messages[1].tool_calls[0].function.name"),
        (called(function={"name": "x" * 65, "arguments": "{}"}), "messages[1].tool_calls[0].function.name"),
        (called(function={"name": "f"}), "messages[1].tool_calls[0].function.arguments"),
        (called(function={"name": "f", "arguments": {}}), "messages[1].tool_calls[0].function.arguments"),
        ({"role": "user", "content": "x", "tool_calls": [{}]}, "messages[1].tool_calls"),
        ({"role": "assistant", "content": "x", "reasoning_content": 3}, "messages[1].reasoning_content"),
    ],
)
def test_a_wrong_message_is_named(message: Any, param: str) -> None:
    with pytest.raises(BadMessages) as caught:
        check_messages([{"role": "user", "content": "fine"}, message])
    assert caught.value.param == param


def test_a_call_needs_no_content_and_keeps_what_was_thought() -> None:
    assert check_messages([{**called(), "reasoning_content": "hm", "refusal": None}]) == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}],
        }
    ]


def test_arguments_are_an_object_where_they_are_one() -> None:
    assert arguments_of('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert arguments_of("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "3",
        '{"a": ',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 99999999999999999999}',
        '{"a": "\\ud83d"}',
        '{"a": ' * 65 + "1" + "}" * 65,
        '{"a": ' * 9_999 + "1" + "}" * 9_999,
    ],
)
def test_arguments_that_are_no_object_templates_can_use_stay_text(text: str) -> None:
    assert arguments_of(text) == text


def test_no_messages_are_no_chat() -> None:
    with pytest.raises(BadMessages):
        check_messages([])


def test_a_model_without_a_template_gets_a_dialogue() -> None:
    messages = check_messages(
        [
            {"role": "system", "content": "Be brief.\n"},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ]
    )
    prompt = plain_prompt(messages)
    assert prompt == "System: Be brief.\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
    assert all(stop in "\n" + prompt for stop in PLAIN_STOPS)
