from __future__ import annotations

import json
from typing import Any

import pytest

from federation.backend import RequestId
from node.chat.call_ids import call_id
from node.chat.described_tools import describe_tools
from node.chat.formats.choice import FORMATS
from node.chat.messages import ChatMessage, check_messages
from node.chat.native_calls import native_messages
from node.chat.tools import check_tools


def call(id_: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Cold?"},
    {"role": "assistant", "content": None, "tool_calls": [call("c1", "f", city="Oslo"), call("c2", "g")]},
    {"role": "tool", "tool_call_id": "c1", "content": "-4"},
    {"role": "tool", "tool_call_id": "c2", "content": "yes"},
]
USE = check_tools(
    [{"type": "function", "function": {"name": "f", "description": "Tells <&>."}}],
    "auto",
    allows_parallel=True,
)


def roles(messages: list[ChatMessage]) -> list[str]:
    return [message["role"] for message in messages]


def test_calls_and_results_become_words_in_turns_that_alternate() -> None:
    messages = describe_tools(check_messages(TALK), None, FORMATS["generic"], "")
    assert messages == [
        {"role": "user", "content": "Cold?"},
        {
            "role": "assistant",
            "content": '[{"name": "f", "arguments": {"city": "Oslo"}}, {"name": "g", "arguments": {}}]',
        },
        {"role": "user", "content": "Result of f: -4\n\nResult of g: yes"},
    ]


def test_what_was_said_with_a_call_stays() -> None:
    talk = [{"role": "assistant", "content": "Let me see.", "tool_calls": [call("c1", "f")]}]
    (message,) = describe_tools(check_messages(talk), None, FORMATS["hermes"], "")
    assert message["content"] == 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def test_tools_are_described_with_the_system_message_there_is() -> None:
    talk = check_messages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    system, user = describe_tools(talk, USE, FORMATS["gemma"], "")
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nYou can call functions.")
    assert '{"name": "f", "description": "Tells <&>.", "parameters": ' in system["content"]
    assert '```tool_code\n{"name": "NAME", "parameters": ' in system["content"]
    assert user == {"role": "user", "content": "Hi"}


def test_tools_are_described_to_the_user_where_no_system_may_speak() -> None:
    template = "{{ raise_exception('System role not supported') }}"
    talk = check_messages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    (user,) = describe_tools(talk, USE, FORMATS["gemma"], template)
    assert user["role"] == "user"
    assert user["content"].startswith("Be brief.\n\nYou can")
    assert user["content"].endswith("\n\nHi")


def test_a_chat_without_tools_is_left_alone() -> None:
    talk = check_messages([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert describe_tools(talk, None, FORMATS["generic"], "") == talk


def test_a_template_that_knows_tools_gets_what_openai_sends() -> None:
    talk = check_messages(TALK)
    assert native_messages(talk, FORMATS["hermes"], "") == talk


def test_ids_are_as_long_as_mistral_wants_them_and_still_meet() -> None:
    messages = native_messages(check_messages(TALK), FORMATS["mistral"], "")
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert [message["tool_call_id"] for message in messages[2:]] == ids
    assert all(len(id_) == 9 and id_.isalnum() for id_ in ids)
    assert len(set(ids)) == 2


def test_calls_made_at_once_come_one_by_one_where_a_template_takes_one() -> None:
    template = "{{ raise_exception('This model only supports single tool-calls at once!') }}"
    talk = [*TALK, {"role": "tool", "tool_call_id": "c9", "content": "?"}, {"role": "user", "content": "So?"}]
    messages = native_messages(check_messages(talk), FORMATS["llama"], template)
    assert roles(messages) == ["user", "assistant", "tool", "assistant", "tool", "tool", "user"]
    assert [message.get("tool_call_id") for message in messages] == [None, None, "c1", None, "c2", "c9", None]
    assert [call["id"] for message in messages for call in message.get("tool_calls", ())] == ["c1", "c2"]


@pytest.mark.parametrize("other", [("r2", 0, 0), ("r1", 1, 0), ("r1", 0, 1), ("1/r1", 0, 0)])
def test_an_id_follows_from_the_request_and_the_place_of_the_call(other: tuple[str, int, int]) -> None:
    id_ = call_id(RequestId("r1"), 0, 0)
    assert id_ == call_id(RequestId("r1"), 0, 0)
    assert len(id_) == len("call_") + 24
    assert id_ != call_id(RequestId(other[0]), *other[1:])
