"""The tools of a request, and which of them an answer may or must call.

tool_choice       shown to the model    may be called    must be called
auto              all                   all              no
none              none                  none             no
required          all                   all              one at least
function:NAME     all                   NAME             NAME
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.chat.errors import BadTools
from node.chat.finite_schema import ENDLESS, has_finite_value
from node.chat.json_values import Uncarriable, require_carriable, require_text
from node.chat.messages import TOOL_NAME_LENGTH_MAX

TOOLS_MAX = 128
"""OpenAI's own bound."""

PARALLEL_CALLS_MAX = 16
"""Calls in one answer, where several are allowed. A guess: agents make up to about five at once, and a
small model held to a grammar that always allows one more may never stop."""

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{TOOL_NAME_LENGTH_MAX}}}")


@dataclass(frozen=True, slots=True)
class Tool:
    """One function a model may call."""

    name: str
    parameters: Mapping[str, Any]
    """JSON schema of the arguments, always one of an object."""
    is_strict: bool
    """Every keyword of the schema must hold; else those that cannot be checked are left out."""
    shape: Mapping[str, Any]
    """As templates get it: OpenAI's."""
    param: str
    """Where its schema stands in the request."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What an answer may do with tools."""

    shown: tuple[Tool, ...]
    callable: tuple[Tool, ...]
    is_forced: bool
    """The answer is a call, and no text."""
    calls_max: int
    """At least 1."""


def check_tools(
    tools: Sequence[Mapping[str, Any]], tool_choice: str, *, allows_parallel: bool
) -> ToolUse | None:
    """How tools may be used, or None if they may not.

    Raises:
      BadTools: a tool, or the choice, is wrong wherever it goes.
    """
    if len(tools) > TOOLS_MAX:
        raise BadTools(f"tools takes at most {TOOLS_MAX}", param="tools")
    checked = tuple(_check_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    twice = [name for name, count in Counter(tool.name for tool in checked).items() if count > 1]
    if twice:
        index = max(index for index, tool in enumerate(checked) if tool.name == twice[0])
        raise BadTools(f"two tools are called {twice[0]}", param=f"tools[{index}].function.name")
    callable_ = _callable(checked, tool_choice)
    if not callable_:
        return None
    is_forced = tool_choice != "auto"
    calls_max = PARALLEL_CALLS_MAX if allows_parallel and not tool_choice.startswith("function:") else 1
    return ToolUse(checked, callable_, is_forced, calls_max)


def _callable(tools: tuple[Tool, ...], tool_choice: str) -> tuple[Tool, ...]:
    match tool_choice.split(":", 1):
        case ["none"]:
            return ()
        case ["auto"]:
            return tools
        case ["required"]:
            if not tools:
                raise BadTools("tool_choice required needs tools", param="tool_choice")
            return tools
        case ["function", name]:
            chosen = tuple(tool for tool in tools if tool.name == name)
            if not chosen:
                raise BadTools("tool_choice names a function that is not among tools", param="tool_choice")
            return chosen
        case _:
            raise BadTools("tool_choice must be auto, none, required, or function:NAME", param="tool_choice")


def _check_tool(tool: object, param: str) -> Tool:
    if not isinstance(tool, Mapping):
        raise BadTools(f"{param} must be an object", param=param)
    if tool.get("type") != "function":
        raise BadTools(f"{param}.type must be function", param=f"{param}.type")
    function = tool.get("function")
    param = f"{param}.function"
    if not isinstance(function, Mapping):
        raise BadTools(f"{param} must be an object", param=param)
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadTools(
            f"{param}.name must be 1 to {TOOL_NAME_LENGTH_MAX} of A-Z, a-z, 0-9, _ and -",
            param=f"{param}.name",
        )
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise BadTools(f"{param}.strict must be true or false", param=f"{param}.strict")
    parameters = _parameters(function.get("parameters"), f"{param}.parameters")
    shape = {
        "name": name,
        "description": _description(function.get("description"), f"{param}.description"),
        "parameters": parameters,
    }
    return Tool(
        name,
        parameters,
        is_strict=strict is True,
        shape={"type": "function", "function": shape},
        param=f"{param}.parameters",
    )


def _description(description: object, param: str) -> str:
    # Templates print it without asking whether it is there.
    if description is None:
        return ""
    try:
        require_text(description)
    except Uncarriable as error:
        raise BadTools(f"{param} must be text", param=param) from error
    return str(description)


def _parameters(parameters: object, param: str) -> dict[str, Any]:
    """A schema that only objects meet, in the shape templates look into."""
    if parameters is None:
        # OpenAI: without parameters a function takes none.
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, Mapping):
        raise BadTools(f"{param} must be a JSON schema", param=param)
    if parameters.get("type", "object") != "object":
        raise BadTools(f"{param}.type must be object: arguments have names", param=f"{param}.type")
    if not isinstance(parameters.get("properties", {}), Mapping):
        raise BadTools(f"{param}.properties must be an object", param=f"{param}.properties")
    try:
        require_carriable(parameters)
    except Uncarriable as error:
        raise BadTools(f"{param} {error}", param=param) from error
    if not has_finite_value({"type": "object", **parameters}):
        raise BadTools(f"{param} {ENDLESS}", param=param)
    return {"type": "object", "properties": {}, **parameters}
