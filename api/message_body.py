"""One message of a chat, as OpenAI's clients send it, made plain: text, calls, and answers to calls."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.body_types import Items, Name, Text
from api.errors import HttpError
from federation.request_limits import TOOL_CALLS_MAX


class TextPart(BaseModel):
    """One part of a message's content; images and sound come with models that know them."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: Text


class CalledFunction(BaseModel):
    """What the model wanted to have called."""

    model_config = ConfigDict(strict=True)

    name: Name
    arguments: Text
    """JSON as the model wrote it, which may be none."""


class ToolCall(BaseModel):
    """One call of an earlier answer."""

    model_config = ConfigDict(strict=True)

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Items[TextPart] | None = None
    name: Name | None = None
    tool_calls: Annotated[Items[ToolCall], Field(max_length=TOOL_CALLS_MAX)] | None = None
    tool_call_id: Name | None = None
    function_call: CalledFunction | None = None
    """OpenAI's former name of `tool_calls`, of which there was one."""

    def text(self) -> str | None:
        """The content as one text, parts on lines of their own."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content

    def plain(self, index: int) -> dict[str, Any]:
        """As one of the messages of an `InferenceRequest`; `index` is its place.

        Raises:
          HttpError: 400 that names what is wrong, with its place.
        """
        calls, text = self._calls(), self.text()
        if calls and self.role != "assistant":
            raise _fault(index, "tool_calls" if self.tool_calls else "function_call", "only assistants call")
        if text is None and not calls:
            raise _fault(index, "content", "every message needs a text")
        plain: dict[str, Any] = {"role": self.role, "content": text}
        if self.name is not None:
            plain["name"] = self.name
        if calls:
            plain["tool_calls"] = calls
        if self.role == "function":
            if self.name is None:
                raise _fault(index, "name", "the answer of a function needs its name")
            return {**plain, "role": "tool", "tool_call_id": _id_of_old_call(self.name)}
        if self.role == "tool":
            if self.tool_call_id is None:
                raise _fault(index, "tool_call_id", "the answer of a tool needs the id of its call")
            plain["tool_call_id"] = self.tool_call_id
        return plain

    def _calls(self) -> list[dict[str, Any]]:
        if self.function_call is not None and not self.tool_calls:
            call_id = _id_of_old_call(self.function_call.name)
            return [{"id": call_id, "type": "function", "function": self.function_call.model_dump()}]
        return [call.model_dump() for call in self.tool_calls or ()]


def _id_of_old_call(name: str) -> str:
    """Old calls have no ids: there was one at a time, so its function tells which is meant."""
    return f"call_{name}"


def _fault(index: int, field: str, message: str) -> HttpError:
    param = f"messages[{index}].{field}"
    return HttpError(400, f"`{param}`: {message}", param=param)
