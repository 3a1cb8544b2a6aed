"""Typed fields out of JSON that a server sent.

Every accessor returns a value of the promised type or raises `BadAnswer`. Absent and null are
the same, as the servers themselves take it. Text comes out as text: half a surrogate pair, which
JSON can spell and no frame can carry, becomes U+FFFD.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import NoReturn

from node.attached.errors import BadAnswer

_WHOLE_MAX = 2**53
"""Beyond it JSON's numbers are not exact, and nothing a server counts gets there."""

_QUOTED_MAX = 100
"""Characters of an unreadable answer that an error quotes."""


def parse_json(text: str | bytes) -> object:
    """The JSON in `text`.

    Raises:
      BadAnswer: it is none.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"it sent what is not JSON: {portable(text[:_QUOTED_MAX])!r}") from error
    return value


def portable(text: str) -> str:
    """`text` with U+FFFD for what is no character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class JsonFields:
    """The fields of one object, taken by name."""

    def __init__(self, value: object, what: str) -> None:
        """`what` it is said to be, for errors.

        Raises:
          BadAnswer: it is no object.
        """
        if not isinstance(value, dict):
            raise BadAnswer(f"its {what} is not an object")
        self._values: Mapping[str, object] = value
        self._what = what

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str) -> object:
        """Whatever is there, or None."""
        return self._values.get(name)

    def text(self, name: str) -> str:
        """A text; empty where there is none."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return portable(value)

    def count(self, name: str) -> int:
        """A number of something; 0 where there is none."""
        value = self._values.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _WHOLE_MAX:
            raise self._wrong(name, "a count")
        return int(value)

    def number(self, name: str) -> float:
        """A finite number; 0 where there is none."""
        value = self._values.get(name)
        if value is None:
            return 0.0
        return finite(value, f"{self._what}.{name}")

    def fields(self, name: str) -> JsonFields:
        """An object; empty where there is none."""
        value = self._values.get(name)
        return JsonFields({} if value is None else value, f"{self._what}.{name}")

    def rows(self, name: str) -> Iterator[JsonFields]:
        """The objects of a list; none where there is none."""
        return (JsonFields(each, f"{self._what}.{name}") for each in self.items(name))

    def items(self, name: str) -> list[object]:
        """A list; empty where there is none."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def _wrong(self, name: str, wanted: str) -> BadAnswer:
        return BadAnswer(f"its {self._what}.{name} is not {wanted}")


def finite(value: object, what: str) -> float:
    """`value`, if it is a finite number.

    Raises:
      BadAnswer: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAnswer(f"its {what} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadAnswer(f"its {what} is not a finite number")
    return number


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
