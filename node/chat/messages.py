"""OpenAI chat messages as every model's template expects them: a role and text.

`developer` is OpenAI's newer word for `system`; no template knows it. Content in
parts becomes one text, each part on a line of its own, as llama.cpp and vLLM do it.
Keys that are no business of a template (`refusal`, `audio`, ...) are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from node.chat.errors import BadMessages

ChatMessage: TypeAlias = dict[str, str]
"""`role` and `content`; sometimes `name` and `tool_call_id`."""

_ROLES = ("system", "user", "assistant", "tool")
_SAME_ROLE = {"developer": "system"}
_OPTIONAL_TEXTS = ("name", "tool_call_id")


def check_messages(messages: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """`messages` with everything in them known to be text.

    Raises:
      BadMessages: there are none, or one has a role or content that cannot be served.
    """
    if not messages:
        raise BadMessages("messages must not be empty", param="messages")
    return [_check_message(message, f"messages.{index}") for index, message in enumerate(messages)]


def _check_message(message: Mapping[str, Any], param: str) -> ChatMessage:
    if not isinstance(message, Mapping):
        raise BadMessages(f"{param} must be an object", param=param)
    role = message.get("role")
    role = _SAME_ROLE.get(role, role) if isinstance(role, str) else None
    if role not in _ROLES:
        allowed = ", ".join([*_ROLES, *_SAME_ROLE])
        raise BadMessages(f"{param}.role must be one of {allowed}", param=f"{param}.role")
    if message.get("tool_calls"):
        raise BadMessages("tool calls are not supported", param=f"{param}.tool_calls")
    checked = {"role": role, "content": _content(message.get("content"), role, f"{param}.content")}
    for key in _OPTIONAL_TEXTS:
        if message.get(key) is not None:
            checked[key] = _text(message[key], f"{param}.{key}")
    return checked


def _content(content: object, role: str, param: str) -> str:
    if content is None and role == "assistant":
        return ""
    if not isinstance(content, list):
        return _text(content, param)
    return "\n".join(_text_of_part(part, f"{param}.{index}") for index, part in enumerate(content))


def _text_of_part(part: object, param: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text":
        raise BadMessages(f"{param} must be a part of type text: this model reads nothing else", param=param)
    return _text(part.get("text"), f"{param}.text")


def _text(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise BadMessages(f"{param} must be text", param=param)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # JSON can carry half of a surrogate pair (`"\ud83d"`); no tokeniser can.
        raise BadMessages(f"{param} holds a surrogate without its other half", param=param) from error
    return value
