"""Earlier calls, as a template that knows tools takes them.

Most take what OpenAI sends. Mistral's insist on ids of nine letters and digits, and
Llama's on one call in a message, although their models make several: a message with two
becomes two messages, each with its own result after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from node.chat.call_ids import short_call_id
from node.chat.formats.tool_format import ToolFormat
from node.chat.messages import ChatMessage

_ONE_CALL_ONLY = "single tool-calls at once"
"""What the templates of Llama 3 say when a message has more."""


def takes_several_calls(template: str) -> bool:
    """Whether a message of the assistant may hold more than one call."""
    return _ONE_CALL_ONLY not in template


def native_messages(messages: Sequence[ChatMessage], format_: ToolFormat, template: str) -> list[ChatMessage]:
    """`messages` with their calls as `template` takes them."""
    fitting = [_with_short_ids(message, format_.call_id_length) for message in messages]
    return fitting if takes_several_calls(template) else list(_one_call_each(fitting))


def _with_short_ids(message: ChatMessage, length: int | None) -> ChatMessage:
    if length is None:
        return message
    changed = dict(message)
    if "tool_call_id" in message:
        changed["tool_call_id"] = short_call_id(message["tool_call_id"], length)
    if "tool_calls" in message:
        calls: list[dict[str, Any]] = message["tool_calls"]
        changed["tool_calls"] = [{**call, "id": short_call_id(call["id"], length)} for call in calls]
    return changed


def _one_call_each(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    waiting = list(messages)
    while waiting:
        message = waiting.pop(0)
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            yield message
            continue
        results = []
        while waiting and waiting[0]["role"] == "tool":
            results.append(waiting.pop(0))
        for index, call in enumerate(calls):
            yield {**message, "content": "" if index else message["content"], "tool_calls": [call]}
            yield from [result for result in results if result.get("tool_call_id") == call["id"]]
        known = {call["id"] for call in calls}
        yield from [result for result in results if result.get("tool_call_id") not in known]
