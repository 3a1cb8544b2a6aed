"""What an answer must be like: OpenAI's `response_format`, and llama.cpp's `grammar` and `json_schema`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.body_types import JsonSchema, Text
from api.errors import HttpError
from federation.backend import Constraint
from federation.request_limits import CONSTRAINT_LENGTH_MAX


class JsonSchemaFormat(BaseModel):
    """A schema with a name. `strict` or not, the answer meets it."""

    model_config = ConfigDict(strict=True)

    name: Annotated[Text, Field(max_length=64)] | None = None
    description: Text | None = None
    definition: JsonSchema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """OpenAI's three kinds; `schema` beside `json_object` is llama.cpp's."""

    model_config = ConfigDict(strict=True)

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    definition: JsonSchema | None = Field(default=None, alias="schema")

    def constraint(self) -> Constraint | None:
        """What it asks for, if anything.

        Raises:
          HttpError: 400; it asks for a schema that is not there, or has one that it does not ask for.
        """
        for name, given, kind in (
            ("json_schema", self.json_schema, "json_schema"),
            ("schema", self.definition, "json_object"),
        ):
            if given is not None and self.type != kind:
                param = f"response_format.{name}"
                raise HttpError(400, f"`{param}` belongs to the type {kind}", param=param)
        match self.type:
            case "text":
                return None
            case "json_object" if self.definition is None:
                return Constraint("json_object")
            case "json_object":
                return _schema_constraint(self.definition, "response_format.schema")
        if self.json_schema is None:
            param = "response_format.json_schema"
            raise HttpError(400, f"`{param}` is missing, and the type asks for it", param=param)
        return _schema_constraint(self.json_schema.definition, "response_format.json_schema.schema")


class ConstraintBody(BaseModel):
    """The three ways to say it, of which a request may use one."""

    response_format: ResponseFormat | None = None
    grammar: Annotated[Text, Field(max_length=CONSTRAINT_LENGTH_MAX)] | None = None
    """In llama.cpp's GBNF."""
    json_schema: JsonSchema | None = None

    def constraint(self) -> Constraint | None:
        """What the answer must be like.

        Raises:
          HttpError: 400 that names the parameter.
        """
        asked: dict[str, Constraint] = {}
        if self.response_format is not None and (wanted := self.response_format.constraint()):
            asked["response_format"] = wanted
        if self.grammar:
            asked["grammar"] = Constraint("gbnf", self.grammar)
        if self.json_schema is not None:
            asked["json_schema"] = _schema_constraint(self.json_schema, "json_schema")
        if len(asked) > 1:
            first, second, *_ = asked
            raise HttpError(400, f"`{second}` cannot be combined with `{first}`", param=second)
        return next(iter(asked.values()), None)


def _schema_constraint(schema: dict[str, Any] | bool | None, param: str) -> Constraint:
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > CONSTRAINT_LENGTH_MAX:
        raise HttpError(
            400, f"`{param}` has {len(text)} characters, {CONSTRAINT_LENGTH_MAX} are allowed", param=param
        )
    return Constraint("json_schema", text)
