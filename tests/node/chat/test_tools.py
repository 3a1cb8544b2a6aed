from __future__ import annotations

from typing import Any

import pytest

from node.chat.errors import BadTools
from node.chat.tools import PARALLEL_CALLS_MAX, check_tools


def tool(name: Any = "f", **changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **changes}}


def test_a_tool_is_shown_with_all_that_templates_look_for() -> None:
    use = check_tools(
        [tool(strict=None), tool("g", parameters={"required": []})], "auto", allows_parallel=True
    )
    assert use is not None
    assert [tool.shape for tool in use.shown] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "",
                "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            },
        },
        {
            "type": "function",
            "function": {
                "name": "g",
                "description": "",
                "parameters": {"type": "object", "properties": {}, "required": []},
            },
        },
    ]


@pytest.mark.parametrize(
    ("choice", "callable_", "is_forced", "calls_max"),
    [
        ("auto", ["f", "g"], False, PARALLEL_CALLS_MAX),
        ("required", ["f", "g"], True, PARALLEL_CALLS_MAX),
        ("function:g", ["g"], True, 1),
    ],
)
def test_what_may_be_called_follows_from_the_choice(
    choice: str, callable_: list[str], is_forced: bool, calls_max: int
) -> None:
    use = check_tools([tool("f"), tool("g")], choice, allows_parallel=True)
    assert use is not None
    assert [tool.name for tool in use.shown] == ["f", "g"]
    assert [tool.name for tool in use.callable] == callable_
    assert (use.is_forced, use.calls_max) == (is_forced, calls_max)


def test_one_call_is_all_where_several_are_not_allowed() -> None:
    use = check_tools([tool()], "required", allows_parallel=False)
    assert use is not None
    assert use.calls_max == 1


def test_nothing_to_call_is_no_use_of_tools() -> None:
    assert check_tools([], "auto", allows_parallel=True) is None
    assert check_tools([], "none", allows_parallel=True) is None
    assert check_tools([tool()], "none", allows_parallel=True) is None


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ("f", "tools[1]"),
        ({"type": "web_search", "function": {"name": "f"}}, "tools[1].type"),
        ({"type": "function"}, "tools[1].function"),
        ({"type": "function", "function": "f"}, "tools[1].function"),
        (tool(None), "tools[1].function.name"),
        (tool(""), "tools[1].function.name"),
        (tool("x" * 65), "tools[1].function.name"),
        (tool("get weather"), "tools[1].function.name"),
        (tool('f"'), "tools[1].function.name"),
        (tool("f\n"), "tools[1].function.name"),
        (tool("first"), "tools[1].function.name"),
        (tool(description=3), "tools[1].function.description"),
        (tool(description="\ud83d"), "tools[1].function.description"),
        (tool(strict="yes"), "tools[1].function.strict"),
        (tool(parameters=[]), "tools[1].function.parameters"),
        (tool(parameters={"type": "string"}), "tools[1].function.parameters.type"),
        (tool(parameters={"properties": []}), "tools[1].function.parameters.properties"),
        (tool(parameters={"properties": {"a\ud83d": {}}}), "tools[1].function.parameters"),
        (tool(parameters={"minProperties": 2**64}), "tools[1].function.parameters"),
    ],
)
def test_a_wrong_tool_is_named(wrong: Any, param: str) -> None:
    with pytest.raises(BadTools) as caught:
        check_tools([tool("first"), wrong], "auto", allows_parallel=True)
    assert caught.value.param == param


def test_a_schema_nested_beyond_what_can_be_carried_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(BadTools, match="nested"):
        check_tools([tool(parameters={"properties": {"a": schema}})], "auto", allows_parallel=True)


@pytest.mark.parametrize("choice", ["function:nobody", "function:", "function", "any", ""])
def test_a_choice_that_means_nothing_is_named(choice: str) -> None:
    with pytest.raises(BadTools) as caught:
        check_tools([tool()], choice, allows_parallel=True)
    assert caught.value.param == "tool_choice"


def test_a_call_cannot_be_required_where_there_is_no_tool() -> None:
    with pytest.raises(BadTools) as caught:
        check_tools([], "required", allows_parallel=True)
    assert caught.value.param == "tool_choice"


def test_more_tools_than_openai_takes_are_refused() -> None:
    with pytest.raises(BadTools):
        check_tools([tool(f"f{number}") for number in range(129)], "auto", allows_parallel=True)
