"""The value of an entry: a msgpack map, and a way to read it field by field.

Values come signed, not checked: an owner may put anything into its own. Whatever is
not as expected is a `BadRecord`, which costs that one entry and nothing else.

Unlike the fields of a message (`p2p/fields.py`) those of a record have defaults, and
what this version does not know must survive being read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgpack

from ledger.errors import BadRecord
from p2p.errors import NotMsgpack
from p2p.unpack import unpack_untrusted

_Word = TypeVar("_Word", bound=str)

_NUMBER_MAX = 2**63 - 1
"""What every reader's integers hold."""
_DEPTH_MAX = 4
"""Of maps and lists in one field. Nothing a record describes goes deeper, and a stack has an end."""
_LATER_DEPTH_MAX = 32
"""The same of what later versions may say: no limit to them, and one to who lies. msgpack reads a thousand
levels and writes half as many."""


def encode_value(value: Mapping[str, Any]) -> bytes:
    """`value` as msgpack, the same bytes for equal maps."""
    encoded: bytes = msgpack.packb(_ordered(value))
    return encoded


def decode_value_untrusted(encoded: bytes) -> dict[str, Any]:
    """The map in `encoded`.

    Raises:
      BadRecord: it is not one msgpack map with text keys.
    """
    try:
        value = unpack_untrusted(encoded)
    except NotMsgpack as error:
        raise BadRecord("a value that is not msgpack") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadRecord("a value that is not a map with text keys")
    return value


class RecordFields:
    """Reads a map, and remembers what nobody asked for."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._unread = dict(value)

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there."""
        value = self._unread.pop(name, default)
        if not isinstance(value, str):
            raise BadRecord(f"{name} is not a text")
        return value

    def word(self, name: str, allowed: Sequence[_Word], default: _Word | None = None) -> _Word:
        """One of the `allowed` words."""
        value = self.text(name, default)
        for word in allowed:
            if word == value:
                return word
        raise BadRecord(f"{name} is a word this version does not know")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; empty if it is not there."""
        value = self._unread.pop(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise BadRecord(f"{name} is not a list of texts")
        return tuple(value)

    def count(self, name: str, default: int = 0) -> int:
        """A number of something, so never negative."""
        value = self._unread.pop(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _NUMBER_MAX:
            raise BadRecord(f"{name} is not a count")
        return value

    def number(self, name: str, default: float) -> float:
        """A number with a fraction, neither infinite nor none."""
        value = self._unread.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadRecord(f"{name} is not a number")
        return float(value)

    def flag(self, name: str) -> bool:
        """Whether something is so; not, if it is not there."""
        value = self._unread.pop(name, False)
        if not isinstance(value, bool):
            raise BadRecord(f"{name} is neither true nor false")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """A map of what JSON can say too; empty if it is not there."""
        value = self._unread.pop(name, {})
        if not isinstance(value, dict) or not _is_plain(value, _DEPTH_MAX):
            raise BadRecord(f"{name} is not a map of plain values")
        return value

    def unread(self) -> dict[str, Any]:
        """What no other call has taken, to be written again as it is."""
        if not _is_shallow(self._unread, _LATER_DEPTH_MAX):
            raise BadRecord("a field of another version is nested too deep")
        return self._unread


def _is_shallow(value: object, depth: int) -> bool:
    """Whether `value` has at most `depth` levels."""
    match value:
        case dict():
            return depth > 0 and all(_is_shallow(each, depth - 1) for each in value.values())
        case list():
            return depth > 0 and all(_is_shallow(each, depth - 1) for each in value)
        case _:
            return True


def _is_plain(value: object, depth: int) -> bool:
    """Whether `value` is what JSON can say, in at most `depth` levels."""
    match value:
        case dict():
            return depth > 0 and all(
                isinstance(key, str) and _is_plain(each, depth - 1) for key, each in value.items()
            )
        case list():
            return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
        case float():
            return math.isfinite(value)
        case _:
            return value is None or isinstance(value, str | int)


def _ordered(value: object) -> object:
    """`value` with every map in the order of its keys, however deep."""
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value, key=_key_order)}
    if isinstance(value, list | tuple):
        return [_ordered(each) for each in value]
    return value


def _key_order(key: str | bytes) -> tuple[bool, str | bytes]:
    """Text first: bytes, which only other versions use as keys, compare with themselves alone."""
    return isinstance(key, bytes), key
