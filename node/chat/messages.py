"""OpenAI chat messages as every model's template expects them: a role and text, and what was called.

`developer` is OpenAI's newer word for `system`; no template knows it. Content in
parts becomes one text, each part on a line of its own, as llama.cpp and vLLM do it.
Arguments of tool calls become objects where they are: OpenAI sends them as JSON text,
and templates written for Hugging Face's `apply_chat_template` loop over them.
Keys that are no business of a template (`refusal`, `audio`, ...) are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from node.chat.errors import BadMessages
from node.chat.json_values import Uncarriable, require_carriable, require_text

ChatMessage: TypeAlias = dict[str, Any]
"""`role` and `content`, both text; sometimes `name`, `tool_call_id`, `reasoning_content` and `tool_calls`."""

TOOL_NAME_LENGTH_MAX = 64
"""Characters; OpenAI's own bound."""

_TOOL_CALLS_MAX = 128
"""Calls in one message; as many as OpenAI takes tools."""

_CALL_ID_LENGTH_MAX = 256
"""Characters; the longest in use have about 40."""

_ROLES = ("system", "user", "assistant", "tool")
_SAME_ROLE = {"developer": "system"}
_OPTIONAL_TEXTS = {
    "system": ("name",),
    "user": ("name",),
    "assistant": ("name", "reasoning_content"),
    "tool": ("name", "tool_call_id"),
}


def check_messages(messages: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """`messages` with everything in them known to be text, or JSON that a template can use.

    Raises:
      BadMessages: there are none, or one has a role or content that cannot be served.
    """
    if not messages:
        raise BadMessages("messages must not be empty", param="messages")
    return [_check_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _check_message(message: Mapping[str, Any], param: str) -> ChatMessage:
    if not isinstance(message, Mapping):
        raise BadMessages(f"{param} must be an object", param=param)
    role = message.get("role")
    role = _SAME_ROLE.get(role, role) if isinstance(role, str) else None
    if role not in _ROLES:
        allowed = ", ".join([*_ROLES, *_SAME_ROLE])
        raise BadMessages(f"{param}.role must be one of {allowed}", param=f"{param}.role")
    checked: ChatMessage = {
        "role": role,
        "content": _content(message.get("content"), role, f"{param}.content"),
    }
    for key in _OPTIONAL_TEXTS[role]:
        if message.get(key) is not None:
            checked[key] = _text(message[key], f"{param}.{key}")
    if message.get("tool_calls"):
        if role != "assistant":
            raise BadMessages(f"{param}.tool_calls: only the assistant calls", param=f"{param}.tool_calls")
        checked["tool_calls"] = _tool_calls(message["tool_calls"], f"{param}.tool_calls")
    return checked


def _content(content: object, role: str, param: str) -> str:
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list):
        return _text(content, param)
    return "\n".join(_text_of_part(part, f"{param}[{index}]") for index, part in enumerate(content))


def _text_of_part(part: object, param: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        raise BadMessages(f"{param} must be a part of type text: this model reads nothing else", param=param)
    return _text(part.get("text"), f"{param}.text")


def _tool_calls(calls: object, param: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list | tuple) or len(calls) > _TOOL_CALLS_MAX:
        raise BadMessages(f"{param} must be a list of at most {_TOOL_CALLS_MAX} calls", param=param)
    return [_tool_call(call, f"{param}[{index}]") for index, call in enumerate(calls)]


def _tool_call(call: object, param: str) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise BadMessages(f"{param} must be an object", param=param)
    # Some clients leave the type out; there is no other.
    if call.get("type", "function") != "function":
        raise BadMessages(f"{param}.type must be function", param=f"{param}.type")
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise BadMessages(f"{param}.function must be an object", param=f"{param}.function")
    return {
        "id": _short_text(call.get("id"), _CALL_ID_LENGTH_MAX, f"{param}.id"),
        "type": "function",
        "function": {
            "name": _short_text(function.get("name"), TOOL_NAME_LENGTH_MAX, f"{param}.function.name"),
            "arguments": _arguments(function.get("arguments"), f"{param}.function.arguments"),
        },
    }


def _arguments(arguments: object, param: str) -> dict[str, Any] | str:
    """What was called with: an object if the text is one, else the text as the model made it."""
    text = _text(arguments, param)
    try:
        parsed = json.loads(text or "{}")
        require_carriable(parsed)
    except (ValueError, RecursionError):
        # A model that made broken JSON sees it again; so does one whose numbers we cannot carry.
        return text
    return parsed if isinstance(parsed, dict) else text


def _short_text(value: object, length_max: int, param: str) -> str:
    text = _text(value, param)
    if not 0 < len(text) <= length_max:
        raise BadMessages(f"{param} must have 1 to {length_max} characters", param=param)
    return text


def _text(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise BadMessages(f"{param} must be text", param=param)
    try:
        require_text(value)
    except Uncarriable as error:
        raise BadMessages(f"{param} {error}", param=param) from error
    return value
