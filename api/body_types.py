"""What the bodies of requests are made of: texts, lists and ids that are refused at their first fault.

A body of a million wrong items would otherwise be seconds of work and gigabytes of errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from api.errors import HttpError
from federation.request_limits import NESTED_VALUES_MAX, require_portable, require_text

TOKENS_MAX = 2**31 - 1
"""llama.cpp counts tokens, and numbers them, in 32 bits."""

NAME_LENGTH_MAX = 256
"""Characters of a name or an id: as many as travel to a peer."""


def _sendable(text: str) -> str:
    require_text(text)
    return text


def _portable(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    require_portable(value, NESTED_VALUES_MAX)
    return value


def _json_schema(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    if not isinstance(value, dict | bool):
        raise ValueError("a JSON schema is an object or a boolean")  # noqa: TRY004 (pydantic's way to say it)
    return _portable(value)


Text: TypeAlias = Annotated[str, AfterValidator(_sendable)]
Name: TypeAlias = Annotated[Text, Field(min_length=1, max_length=NAME_LENGTH_MAX)]
TokenId: TypeAlias = Annotated[int, Field(ge=0, le=TOKENS_MAX)]

_T = TypeVar("_T")

Items: TypeAlias = Annotated[list[_T], Field(fail_fast=True)]

Texts: TypeAlias = Text | Items[TokenId] | Items[Text] | Items[Items[TokenId]]
"""One text or several, as text or as token ids."""

JsonSchema: TypeAlias = Annotated[dict[str, Any] | bool, BeforeValidator(_json_schema)]

Portable = BeforeValidator(_portable)
"""For nested JSON: no deeper and no larger than what can travel."""


class ModelBody(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Name

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Parameters that would change the answer and are not supported, with the values that change nothing."""
    elsewhere: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """The same for parameters that other endpoints have."""

    def require_supported(self) -> None:
        """Nothing, if all that would change the answer is supported.

        Raises:
          HttpError: 400 that names the parameter.
        """
        self._refuse(self.not_yet, "is not supported yet, or not with this value")
        self._refuse(self.elsewhere, "is a parameter of another endpoint")

    def _refuse(self, values: Mapping[str, tuple[Any, ...]], why: str) -> None:
        unknown = self.model_extra or {}
        for name, neutral in values.items():
            if unknown.get(name) not in neutral:
                raise HttpError(400, f"`{name}` {why}", param=name, code="unsupported_parameter")


def separate_texts(texts: str | list[Any]) -> list[str | tuple[int, ...]]:
    """Each of `texts` by itself."""
    if isinstance(texts, str):
        return [texts]
    if texts and isinstance(texts[0], int):
        return [tuple(texts)]
    return [each if isinstance(each, str) else tuple(each) for each in texts]
