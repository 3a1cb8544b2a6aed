"""Schemas that refer to themselves: which of them an answer can ever meet."""

from __future__ import annotations

from typing import Any

import pytest

from node.chat.errors import BadTools
from node.chat.finite_schema import has_finite_value
from node.chat.tools import check_tools

NODE = {"type": "object", "properties": {"next": {"$ref": "#"}}}
EITHER = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        NODE,
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": ["object", "null"], "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "#/$defs/a", "$defs": {**EITHER, "b": {"type": "string"}}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 1}}},
        {"$ref": "#/prefixItems/0", "prefixItems": [True]},
        # What is not understood, or nobody's to follow, is for the library to say.
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "http://example.org/x"},
        {"$ref": 7, "required": 7, "anyOf": {}, "minItems": "many", "properties": []},
    ],
)
def test_recursion_that_can_end_is_fine(schema: dict[str, Any]) -> None:
    assert has_finite_value(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {**NODE, "required": ["next"]},
        {"allOf": [{"$ref": "#"}]},
        {"oneOf": [{"$ref": "#"}, {"$ref": "#/oneOf/0"}]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
        {"$ref": "#/$defs/a", "$defs": EITHER},
    ],
)
def test_recursion_without_end_is_found(schema: dict[str, Any]) -> None:
    assert not has_finite_value(schema)


def test_a_tool_that_nobody_could_ever_call_is_named() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {**NODE, "required": ["next"]}}}
    with pytest.raises(BadTools, match="without end") as caught:
        check_tools([tool], "auto", allows_parallel=True)
    assert caught.value.param == "tools[0].function.parameters"


@pytest.mark.parametrize("step", [1, -1])
def test_a_long_chain_of_references_is_not_walked_for_ever(step: int) -> None:
    definitions = {f"{at}": {"$ref": f"#/$defs/{at + step}"} for at in range(5_000)}
    assert has_finite_value({"$ref": "#/$defs/2500", "$defs": definitions})
