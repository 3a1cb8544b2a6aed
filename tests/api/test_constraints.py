"""What an answer must be like: three ways to say it, of which one may be used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from federation.backend import Constraint
from federation.request_limits import CONSTRAINT_LENGTH_MAX, NESTED_DEPTH_MAX

if TYPE_CHECKING:
    from tests.api.conftest import Bench

SCHEMA = {"type": "object", "properties": {"größe": {"type": "number"}}}
SCHEMA_TEXT = '{"type":"object","properties":{"größe":{"type":"number"}}}'


def named(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "size", "schema": schema, **more}}


@pytest.mark.parametrize(
    ("said", "constraint"),
    [
        ({}, None),
        ({"response_format": None, "grammar": None, "json_schema": None}, None),
        ({"response_format": {"type": "text"}, "grammar": ""}, None),
        ({"response_format": {"type": "json_object"}}, Constraint("json_object")),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            Constraint("json_schema", SCHEMA_TEXT),
        ),
        ({"response_format": named(SCHEMA)}, Constraint("json_schema", SCHEMA_TEXT)),
        ({"response_format": named(SCHEMA, strict=True)}, Constraint("json_schema", SCHEMA_TEXT)),
        ({"response_format": named(True)}, Constraint("json_schema", "true")),
        ({"json_schema": SCHEMA}, Constraint("json_schema", SCHEMA_TEXT)),
        ({"json_schema": {}}, Constraint("json_schema", "{}")),
        ({"json_schema": False}, Constraint("json_schema", "false")),
        ({"grammar": 'root ::= "yes"'}, Constraint("gbnf", 'root ::= "yes"')),
        (
            {"response_format": {"type": "text"}, "grammar": 'root ::= "yes"'},
            Constraint("gbnf", 'root ::= "yes"'),
        ),
    ],
)
def test_each_way_to_constrain_an_answer_means_one_thing(
    bench: Bench, said: dict[str, Any], constraint: Constraint | None
) -> None:
    assert bench.chat(**said).status == 200
    assert bench.call("POST", "/v1/completions", {"model": "stub", "prompt": "", **said}).status == 200
    assert [request.constraint for request in bench.backend.requests] == [constraint, constraint]


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"not": value}
    return value


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": named("object")}, "response_format.json_schema.schema"),
        ({"response_format": named(SCHEMA, name=7)}, "response_format.json_schema.name"),
        ({"response_format": named(nested(NESTED_DEPTH_MAX))}, "response_format.json_schema.schema"),
        (
            {"response_format": named({"const": "x" * CONSTRAINT_LENGTH_MAX})},
            "response_format.json_schema.schema",
        ),
        ({"json_schema": [SCHEMA]}, "json_schema"),
        ({"json_schema": "{}"}, "json_schema"),
        ({"json_schema": {"const": float("nan")}}, "json_schema"),
        ({"json_schema": {"const": "\ud800"}}, "json_schema"),
        ({"grammar": 3}, "grammar"),
        ({"grammar": "x" * (CONSTRAINT_LENGTH_MAX + 1)}, "grammar"),
        ({"grammar": "x", "json_schema": {}}, "json_schema"),
        ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"json_schema": {}, "response_format": named(SCHEMA)}, "json_schema"),
    ],
)
def test_a_wrong_constraint_is_named(bench: Bench, said: dict[str, Any], param: str) -> None:
    reply = bench.chat(**said)
    assert reply.status == 400
    assert reply.json()["error"]["param"] == param
    assert param in reply.json()["error"]["message"]
    assert bench.backend.requests == []


def test_a_refusal_is_in_our_own_words(bench: Bench) -> None:
    message = bench.chat(json_schema=3).json()["error"]["message"]
    assert message == "`json_schema`: a JSON schema is an object or a boolean"


def test_a_schema_arrives_in_the_order_it_was_written(bench: Bench) -> None:
    schema: dict[str, Any] = {"properties": {name: {} for name in "zmab"}}
    bench.chat(json_schema=schema)
    constraint = bench.backend.requests[0].constraint
    assert constraint is not None
    assert list(json.loads(constraint.text)["properties"]) == list("zmab")
