from __future__ import annotations

from typing import Any

import pytest

from node.chat.errors import BadMessages
from node.chat.messages import check_messages
from node.chat.plain_prompt import PLAIN_STOPS, plain_prompt


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
        ("text", "messages.1"),
        ({"content": "x"}, "messages.1.role"),
        ({"role": "wizard", "content": "x"}, "messages.1.role"),
        ({"role": ["user"], "content": "x"}, "messages.1.role"),
        ({"role": "user"}, "messages.1.content"),
        ({"role": "user", "content": 3}, "messages.1.content"),
        ({"role": "user", "content": ["x"]}, "messages.1.content.0"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages.1.content.0"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "messages.1.content.0.text"),
        ({"role": "user", "content": "half \ud83d"}, "messages.1.content"),
        ({"role": "user", "content": "x", "name": 3}, "messages.1.name"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}, "messages.1.tool_calls"),
    ],
)
def test_a_wrong_message_is_named(message: Any, param: str) -> None:
    with pytest.raises(BadMessages) as caught:
        check_messages([{"role": "user", "content": "fine"}, message])
    assert caught.value.param == param


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
