"""Typed fields out of a map that a peer sent.

Every accessor returns a value of the promised type and range or raises `BadFrame`,
so a decoder written with them needs few checks of its own. Fields nobody asks for
are ignored, and so are items beyond those of a row: that is how messages grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from p2p.errors import BadFrame

T = TypeVar("T")
Word = TypeVar("Word", bound=str)

_WORD_LENGTH_MAX = 256
"""Characters of a word that may be one of those we know: more is not worth quoting in an error."""


class Fields:
    """The untrusted `values` of one map, taken by name. An absent field and a nil one are the same."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def over(self, defaults: Mapping[str, Any]) -> Fields:
        """These fields, and `defaults` where they are absent: our own values, as a sender would say them."""
        said = {name: value for name, value in self._values.items() if value is not None}
        return Fields({**defaults, **said})

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._of_type(name, int)
        if not low <= value <= high:
            raise BadFrame(f"{name} is {value}, not from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A finite number from `low` to `high`; a whole one will do."""
        value = self._values.get(name)
        # NaN is in no range.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadFrame(f"{name} is not a number from {low} to {high}")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._of_type(name, bool)

    def text(self, name: str, length_max: int) -> str:
        """Text of at most `length_max` characters."""
        value = self._of_type(name, str)
        if len(value) > length_max:
            raise BadFrame(f"{name} has {len(value)} characters, {length_max} are allowed")
        return value

    def data(self, name: str, size: int) -> bytes:
        """Exactly `size` bytes."""
        value = self._of_type(name, bytes)
        if len(value) != size:
            raise BadFrame(f"{name} has {len(value)} bytes, not {size}")
        return value

    def data_up_to(self, name: str, size_max: int) -> bytes:
        """At most `size_max` bytes."""
        value = self._of_type(name, bytes)
        if len(value) > size_max:
            raise BadFrame(f"{name} has {len(value)} bytes, {size_max} are allowed")
        return value

    def fields(self, name: str) -> Fields:
        """The fields of a map within this one."""
        value = self._of_type(name, dict)
        if not all(type(key) is str for key in value):
            raise BadFrame(f"{name} is not a map with text keys")
        return Fields(value)

    def names(self, count_max: int) -> tuple[str, ...]:
        """The names of all fields, at most `count_max`."""
        if len(self._values) > count_max:
            raise BadFrame(f"a map has {len(self._values)} fields, {count_max} are allowed")
        return tuple(self._values)

    def row(self, name: str, columns: Sequence[str], later: Sequence[str] = ()) -> Fields:
        """The items of a list within this map, the first called `columns`, those after them `later`.

        `later` are columns that an older sender does not know: they may be absent.
        """
        return _row(name, self._of_type(name, list), columns, later)

    def rows(
        self, name: str, count_max: int, columns: Sequence[str], later: Sequence[str] = ()
    ) -> Iterator[Fields]:
        """At most `count_max` lists, the items of each called as in `row`."""
        return (_row(name, items, columns, later) for items in self._list_of(name, list, count_max))

    def texts(self, name: str, count_max: int, length_max: int) -> tuple[str, ...]:
        """At most `count_max` texts of at most `length_max` characters."""
        values = tuple(self._list_of(name, str, count_max))
        if any(len(value) > length_max for value in values):
            raise BadFrame(f"{name} has a text of more than {length_max} characters")
        return values

    def wholes(self, name: str, count_max: int, high: int) -> tuple[int, ...]:
        """At most `count_max` whole numbers from 0 to `high`."""
        values = tuple(self._list_of(name, int, count_max))
        if values and not (min(values) >= 0 and max(values) <= high):
            raise BadFrame(f"{name} has a number that is not from 0 to {high}")
        return values

    def datas(self, name: str, count_max: int) -> tuple[bytes, ...]:
        """At most `count_max` pieces of data, each of any size."""
        return tuple(self._list_of(name, bytes, count_max))

    def maps(self, name: str, count_max: int) -> tuple[dict[str, Any], ...]:
        """At most `count_max` maps with text keys; what is in them is not looked at."""
        values = tuple(self._list_of(name, dict, count_max))
        if not all(type(key) is str for value in values for key in value):
            raise BadFrame(f"{name} has a map whose keys are not all text")
        return values

    def word(self, name: str, allowed: Sequence[Word]) -> Word:
        """One of the `allowed` words."""
        return _known(name, self.text(name, _WORD_LENGTH_MAX), allowed)

    def words(self, name: str, allowed: Sequence[Word], count_max: int) -> tuple[Word, ...]:
        """At most `count_max` of the `allowed` words."""
        return tuple(_known(name, text, allowed) for text in self.texts(name, count_max, _WORD_LENGTH_MAX))

    def is_list(self, name: str) -> bool:
        """Whether the field is a list, where two types are allowed."""
        return type(self._values.get(name)) is list

    def _of_type(self, name: str, kind: type[T]) -> T:
        value = self._values.get(name)
        # Not isinstance: True would pass for 1.
        if type(value) is not kind:
            raise BadFrame(f"{name} is not of type {kind.__name__}")
        return value

    def _list_of(self, name: str, kind: type[T], count_max: int) -> Iterator[T]:
        values = self._of_type(name, list)
        if len(values) > count_max:
            raise BadFrame(f"{name} has {len(values)} items, {count_max} are allowed")
        for value in values:
            if type(value) is not kind:
                raise BadFrame(f"{name} has an item that is not of type {kind.__name__}")
            yield value


def _row(name: str, items: list[Any], columns: Sequence[str], later: Sequence[str] = ()) -> Fields:
    if len(items) < len(columns):
        raise BadFrame(f"{name} has {len(items)} items where {', '.join(columns)} are needed")
    return Fields(dict(zip((*columns, *later), items, strict=False)))


def _known(name: str, text: str, allowed: Sequence[Word]) -> Word:
    for word in allowed:
        if word == text:
            return word
    raise BadFrame(f"{name} is {text!r}, which is none of {', '.join(allowed)}")
