"""Tools in words, for a model whose template knows none: what there is, how to call it, what was called.

    system      ... You can call functions. Each is described as JSON: ... To call one, answer ...
    user        Is it cold in Oslo?
    assistant   [{"name": "get_weather", "arguments": {"city": "Oslo"}}]        was: tool_calls
    user        Result of get_weather: -4                                       was: tool

The call is written as the model is held to write its next one. Results come as the
user's, because such templates know no other role, and many refuse turns that do not
alternate; for the same reason turns of one role in a row become one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from node.chat.formats.tool_format import ToolFormat
from node.chat.messages import ChatMessage
from node.chat.tools import ToolUse

_NO_SYSTEM_ROLE = "System role not supported"
"""What the template of Gemma 2, and those made after it, say when they get one."""


def describe_tools(
    messages: Sequence[ChatMessage], use: ToolUse | None, format_: ToolFormat, template: str
) -> list[ChatMessage]:
    """`messages` without anything a template must know tools for."""
    names = {
        call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls", ())
    }
    has_tools = use is not None or any(message["role"] == "tool" for message in messages)
    if not has_tools and not names:
        return list(messages)
    plain = [_in_words(message, format_, names) for message in messages]
    if use is not None:
        plain = _instructed(plain, _instructions(use, format_), takes_system=_NO_SYSTEM_ROLE not in template)
    return _merged(plain)


def _instructions(use: ToolUse, format_: ToolFormat) -> str:
    tools = "\n".join(json.dumps(tool.shape["function"], ensure_ascii=False) for tool in use.shown)
    one, other = ("NAME", '{"PARAMETER": VALUE, ...}'), ("OTHER_NAME", "{...}")
    paragraphs = [
        "You can call functions. Each is described as JSON:",
        tools,
        "To call one, answer with exactly this and nothing after it:",
        format_.written.text([one]),
    ]
    if use.calls_max > 1:
        paragraphs += ["Several calls look like this:", format_.written.text([one, other])]
    paragraphs.append("You get the result in the next message.")
    if use.is_forced:
        paragraphs.append("Now call a function.")
    else:
        paragraphs.append("If you need no function, answer in plain words instead.")
    return "\n\n".join(paragraphs)


def _in_words(message: ChatMessage, format_: ToolFormat, names: dict[str, str]) -> ChatMessage:
    if message["role"] == "tool":
        name = message.get("name") or names.get(message.get("tool_call_id", ""), "the call")
        return {"role": "user", "content": f"Result of {name}: {message['content']}"}
    if "tool_calls" not in message:
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    calls = format_.written.text([(function["name"], function["arguments"]) for function in functions])
    content = f"{message['content']}\n{calls}" if message["content"] else calls
    return {**{key: text for key, text in message.items() if key != "tool_calls"}, "content": content}


def _instructed(messages: list[ChatMessage], text: str, *, takes_system: bool) -> list[ChatMessage]:
    """`messages` that begin with `text`, after a system message of their own if there is one."""
    role = "system" if takes_system else "user"
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "role": role, "content": f"{messages[0]['content']}\n\n{text}"}
        return [first, *messages[1:]]
    return [{"role": role, "content": text}, *messages]


def _merged(messages: list[ChatMessage]) -> list[ChatMessage]:
    merged: list[ChatMessage] = []
    for message in messages:
        if merged and message["role"] == merged[-1]["role"] != "system":
            merged[-1] = {**merged[-1], "content": f"{merged[-1]['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged
