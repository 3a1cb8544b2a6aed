"""Values out of a YAML map, one key at a time, each with its type.

What is wrong is an error that names file and key; what nobody asked for is a
warning that does the same. So settings written for a newer or another program
still work, and a typing mistake is not silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import yaml

from node.models.errors import BadModelYaml
from node.models.portable_text import is_portable

Value = TypeVar("Value")


class WrongValue(ValueError):
    """A value its key cannot have; the text goes on after the key's name."""


class YamlReader:
    """One map of settings, and which of its keys nobody has asked for yet."""

    def __init__(self, source: str, values: object, *, prefix: str = "") -> None:
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            raise BadModelYaml(f"{source}: {prefix.rstrip('.') or 'the document'} must be a map of settings")
        self._source = source
        self._prefix = prefix
        self._unread = dict(values)
        self._sections: list[YamlReader] = []
        self._warnings: list[str] = []

    @classmethod
    def parse(cls, content: bytes | str, *, source: str) -> YamlReader:
        """The map in `content`; `source` names it in what is reported.

        Raises:
          BadModelYaml: it is not YAML, or not a map.
        """
        try:
            document = yaml.safe_load(content)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            # ValueError: a date or number that cannot be. RecursionError: a thousand nested brackets.
            problem = " ".join(str(error).split()) or type(error).__name__
            raise BadModelYaml(f"{source} is not YAML: {problem}") from error
        return cls(source, document)

    def section(self, key: str) -> YamlReader:
        """The map under `key`; an empty one if it is not there."""
        section = YamlReader(self._source, self._unread.pop(key, None), prefix=f"{self._prefix}{key}.")
        self._sections.append(section)
        return section

    def take(self, key: str, convert: Callable[[object], Value]) -> Value | None:
        """The value of `key` as `convert` makes it, or None if it is not there.

        Raises:
          BadModelYaml: `convert` said that it cannot be.
        """
        value = self._unread.pop(key, None)
        if value is None:
            return None
        try:
            return convert(value)
        except WrongValue as error:
            raise BadModelYaml(f"{self._source}: {self._prefix}{key} {error}") from error

    def warn(self, key: str, problem: str) -> None:
        self._warnings.append(f"{self._source}: {self._prefix}{key} {problem}")

    def warnings(self) -> tuple[str, ...]:
        """What was warned of, here and in sections, and each key that was never taken."""
        unknown = [
            f"{self._source}: {self._prefix}{key} is not known here and has no effect" for key in self._unread
        ]
        below = [warning for section in self._sections for warning in section.warnings()]
        return (*self._warnings, *unknown, *below)


def text(value: object) -> str:
    if not isinstance(value, str) or not is_portable(value):
        raise WrongValue("must be text")
    return value


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("must be true or false")
    return value


def integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValue("must be a whole number")
    return value


def count(value: object) -> int:
    number = integer(value)
    if not 0 <= number < 2**31:
        raise WrongValue("must be from 0 to 2147483647, what llama.cpp can hold")
    return number


def number_between(minimum: float, maximum: float) -> Callable[[object], float]:
    """A converter to numbers from `minimum` to `maximum`, both allowed."""

    def convert(value: object) -> float:
        number = _number(value)
        if not minimum <= number <= maximum:
            raise WrongValue(f"must be a number from {minimum:g} to {maximum:g}")
        return number

    return convert


def texts(count_max: int) -> Callable[[object], tuple[str, ...]]:
    """A converter to at most `count_max` texts, none of them empty."""

    def convert(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(
            isinstance(item, str) and item and is_portable(item) for item in value
        ):
            raise WrongValue("must be a list of texts")
        if len(value) > count_max:
            raise WrongValue(f"has {len(value)} texts; {count_max} are allowed")
        return tuple(value)

    return convert


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        # PyYAML reads `1e-3` as text; Go's YAML, for which these files were written, as a number.
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
