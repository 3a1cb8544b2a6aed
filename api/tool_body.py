"""Functions that a model may call: OpenAI's `tools`, and the `functions` that came before them.

`functions` become tools, and answers name what is called as `tool_calls` in both cases.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from api.body_types import Items, Portable, Text
from api.errors import HttpError
from federation.request_limits import TOOL_NAME_LENGTH_MAX, TOOLS_MAX

FunctionName: TypeAlias = Annotated[Text, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=TOOL_NAME_LENGTH_MAX)]


class FunctionDefinition(BaseModel):
    """What a model is told of a function."""

    model_config = ConfigDict(strict=True)

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of its arguments."""
    strict: bool | None = None

    def tool(self) -> dict[str, Any]:
        """As a tool of an `InferenceRequest`."""
        return {"type": "function", "function": self.model_dump(exclude_none=True)}


class Tool(BaseModel):
    """The one kind of tool there is."""

    model_config = ConfigDict(strict=True)

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(BaseModel):
    """A function, by its name."""

    model_config = ConfigDict(strict=True)

    name: FunctionName


class NamedTool(BaseModel):
    """The function that must be called."""

    model_config = ConfigDict(strict=True)

    type: Literal["function"]
    function: NamedFunction


class ToolBody(BaseModel):
    """What may be called, and what must be."""

    tools: Annotated[Items[Tool], Field(max_length=TOOLS_MAX), Portable] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[Items[FunctionDefinition], Field(max_length=TOOLS_MAX), Portable] | None = None
    """OpenAI's former name of `tools`."""
    function_call: Literal["auto", "none"] | NamedFunction | None = None
    """OpenAI's former name of `tool_choice`."""

    def tool_fields(self) -> dict[str, Any]:
        """The fields of an `InferenceRequest` about tools.

        Raises:
          HttpError: 400 that names the parameter.
        """
        if self.functions and self.tools:
            raise HttpError(400, "`functions` is the old name of `tools`: use one of them", param="functions")
        is_old = bool(self.functions)
        definitions = self.functions or [tool.function for tool in self.tools or ()]
        names = [each.name for each in definitions]
        for index, name in enumerate(names):
            if name in names[:index]:
                where = f"functions[{index}].name" if is_old else f"tools[{index}].function.name"
                raise HttpError(400, f"`{where}`: {name} is there twice", param=where)
        return {
            "tools": tuple(each.tool() for each in definitions),
            "tool_choice": self._choice(names),
            # A function call was one, before there were tools.
            "allows_parallel_tool_calls": self.parallel_tool_calls is not False and not is_old,
        }

    def own_tool_names(self) -> dict[str, str]:
        """What the client called `tools`, where that is another name."""
        if not self.functions:
            return {}
        each = {f"tools[{index}].function": f"functions[{index}]" for index in range(len(self.functions))}
        return {**each, "tools": "functions"}

    def _choice(self, names: list[str]) -> str:
        if self.function_call is not None and self.tool_choice is not None:
            raise HttpError(
                400,
                "`function_call` is the old name of `tool_choice`: use one of them",
                param="function_call",
            )
        choice = self.tool_choice or self.function_call
        if not isinstance(choice, NamedTool | NamedFunction) and choice != "required":
            return choice or "auto"
        param = "tool_choice" if self.tool_choice is not None else "function_call"
        if not names:
            raise HttpError(400, f"`{param}` asks for a call, and there is nothing to call", param=param)
        if choice == "required":
            return choice
        name = choice.function.name if isinstance(choice, NamedTool) else choice.name
        if name not in names:
            raise HttpError(400, f"`{param}` names {name}, which is none of the functions", param=param)
        return f"function:{name}"
