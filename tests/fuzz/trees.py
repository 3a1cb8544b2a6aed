"""Msgpack that is changed part by part: another type, one key less, a length that lies.

A tree is one message and the places of all its parts. A change writes other bytes in one part's place
and leaves the rest as it was, so it can also write what no packer would: a key twice, a list that says
it is longer than it is, text that is not UTF-8.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import msgpack

Path: TypeAlias = tuple[int, ...]
"""From the root to a part: its index among the values of each list or map on the way."""

PATHS_MAX = 400
"""Places remembered of one seed. What comes after four hundred is like what came before."""

_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False),
    *(0, 1, -1, 2, 3, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan),
    *("", " ", "x", "x" * 70, "x" * 300, "two\nlines", "\x1b[31m", "\u202e", "\x00", "🙂" * 40, "/", "/p2p/"),
    *(b"", b"\xff", bytes(16), bytes(31), bytes(32), b"\xff" * 32, bytes(33), b"\xff" * 64, bytes(300)),
    *([], [[]], [None] * 20, [0] * 300, [[], {}], ["x", b"x", 1, None]),
    *({}, {"": 0}, {"kind": 1}, {1: 2}, {b"x": 1}, {"x": {"x": {"x": {"x": {"x": 1}}}}}),
    *(msgpack.ExtType(5, b"x"), msgpack.Timestamp(0)),
)
_ODD: tuple[bytes, ...] = (
    *(msgpack.packb(value) for value in _ODD_VALUES),
    b"",
    b"\xc1",
    b"\xa2\xff\xfe",
    b"\xa3\xed\xa0\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xdd\x00\x01\x00\x00",
    b"\xdd\x00\x00\xff\xff" * 100,
    b"\xdf\xff\xff\xff\xff",
    b"\xdf\x00\x00\xff\xff" * 100,
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\x91" * 400 + b"\xc0",
    b"\x91" * 2000 + b"\xc0",
    b"\x81\xa1x" * 400 + b"\xc0",
    b"\xc7\x03\xff\x00\x00\x00",
    b"\xca\x7f\xc0\x00\x01",
    b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
)
"""The last of them: nothing at all, the type that is never used, text that is no UTF-8, lists and maps of
four billion, others in which each promises 65,535, nesting without end, half a timestamp, a float of four
bytes that is no number."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One message, and where its parts are."""

    value: Any
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, data: bytes) -> Tree:
        """The tree of the valid message `data`."""
        value = msgpack.unpackb(data, strict_map_key=False)
        paths: list[Path] = []
        _collect(value, (), paths)
        return cls(value, tuple(paths[:PATHS_MAX]))

    def mutated(self, rng: Random, other: Tree) -> bytes:
        """The message with one part changed, perhaps into a part of `other`."""
        path = rng.choice(self.paths)
        part = _at(self.value, path)
        match rng.randrange(4):
            case 0:
                new = rng.choice(_ODD)
            case 1:
                new = _packed(_at(other.value, rng.choice(other.paths)))
            case _:
                new = _changed(rng, part)
        return _with_part(self.value, path, new)


def _collect(value: object, path: Path, paths: list[Path]) -> None:
    paths.append(path)
    for index, each in enumerate(_values(value)):
        if len(paths) >= PATHS_MAX:
            return
        _collect(each, (*path, index), paths)


def _values(value: object) -> list[Any]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []


def _at(value: Any, path: Path) -> Any:
    for index in path:
        value = _values(value)[index]
    return value


def _with_part(value: Any, path: Path, new: bytes) -> bytes:
    """`value` packed, with `new` where the part at `path` was."""
    if not path:
        return new
    first, *rest = path
    parts = [
        _with_part(each, tuple(rest), new) if index == first else _packed(each)
        for index, each in enumerate(_values(value))
    ]
    if isinstance(value, dict):
        return _map_header(len(value)) + b"".join(
            _packed(key) + part for key, part in zip(value, parts, strict=True)
        )
    return _list_header(len(parts)) + b"".join(parts)


def _changed(rng: Random, part: Any) -> bytes:
    """`part` packed, with something changed that fits its type."""
    match part:
        case bool():
            return rng.choice((b"\xc2", b"\xc3", b"\x00", b"\x01"))
        case int() | float():
            return _changed_number(rng, part)
        case str():
            return _changed_bytes(rng, part.encode(), b"\xdb")
        case bytes():
            return _changed_bytes(rng, part, b"\xc6")
        case list():
            return _changed_list(rng, part)
        case dict():
            return _changed_map(rng, part)
        case _:
            return rng.choice(_ODD)


def _changed_number(rng: Random, number: float) -> bytes:
    if isinstance(number, int):
        near = max(-(2**63), min(2**64 - 1, number + rng.choice((-1, 1, -number, number, 2**31, 2**62))))
        forms = [_packed(near), _packed(float(number))]
        if -(2**63) <= number < 2**63:
            forms.append(b"\xd3" + struct.pack(">q", number))  # The same, not as short as it could be.
        return rng.choice(forms)
    near_float = rng.choice((-number, number * 2, number + 1e-9, number * 1e300))
    return rng.choice((_packed(near_float), _packed(round(number))))


def _changed_bytes(rng: Random, content: bytes, long_header: bytes) -> bytes:
    """Text or bytes: longer, shorter, the other of the two, or with a length that lies."""
    length = len(content)
    match rng.randrange(6):
        case 0:
            content = content[: rng.randrange(length + 1)]
        case 1:
            content += rng.choice((b"\0", b"x", b"\xff", content, content * 7, b"x" * 5000))
        case 2 if content:
            place = rng.randrange(length)
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
        case 3:
            long_header = b"\xc6" if long_header == b"\xdb" else b"\xdb"
        case 4:
            return long_header + rng.choice((length + 1, length * 2, 2**31, 2**32 - 1)).to_bytes(4) + content
        case _:
            content = content[::-1]
    return long_header + len(content).to_bytes(4, "big") + content


def _changed_list(rng: Random, items: list[Any]) -> bytes:
    parts = [_packed(item) for item in items]
    count = _change_parts(rng, parts)
    return _list_header(count) + b"".join(parts)


def _changed_map(rng: Random, fields: dict[Any, Any]) -> bytes:
    names, values = (
        [_packed(name) for name in fields],
        [_packed(each) for each in fields.values()],
    )
    if names and rng.random() < 0.4:
        place = rng.randrange(len(names))
        names[place] = rng.choice((rng.choice(names), _packed(rng.choice(("", "later", 0, b"x", -1)))))
    parts = [name + value for name, value in zip(names, values, strict=True)]
    count = _change_parts(rng, parts)
    return _map_header(count) + b"".join(parts)


def _change_parts(rng: Random, parts: list[bytes]) -> int:
    """Drop, repeat or move some of them. Returns how many to say there are."""
    place = rng.randrange(len(parts)) if parts else 0
    match rng.randrange(6):
        case 0:
            del parts[place : place + 1]
        case 1:
            parts += parts[place : place + 1]
        case 2:
            parts += parts[place : place + 1] * rng.choice((10, 40, 300))
        case 3:
            rng.shuffle(parts)
        case 4:
            return max(0, len(parts) + rng.choice((-1, 1, 1000, 2**32 - 1 - len(parts))))
        case _:
            pass
    return len(parts)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _list_header(count: int) -> bytes:
    return bytes([0x90 | count]) if count < 16 else b"\xdd" + count.to_bytes(4, "big")


def _map_header(count: int) -> bytes:
    return bytes([0x80 | count]) if count < 16 else b"\xdf" + count.to_bytes(4, "big")
