"""Near misses: bytes a decoder almost takes, made from bytes that it takes.

Random noise never gets past a length or a kind. So every input begins as a valid message, and one to
three things about it are changed: bytes, or, where the message is msgpack, parts of it by what they are
(`trees.py`). Most inputs then reach a check deep inside.

The same `rng` and the same seeds make the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.fuzz.trees import Tree

SIZE_MAX = 64 * 1024
"""Bytes an input may grow to by being repeated, unless its seed is larger: large ones take long."""

LARGE = 2000
"""Bytes from which a seed is tried once in `LARGE_EVERY`, because it takes as long as fifty small ones."""
LARGE_EVERY = 64

_BYTES = (
    0x00,
    0x01,
    0x02,
    0x7F,
    0x80,
    0x81,
    0x90,
    0x91,
    0xA0,
    0xC0,
    0xC1,
    0xC4,
    0xD9,
    0xDD,
    0xDF,
    0xFE,
    0xFF,
)
"""Least and largest values, and what msgpack begins a value of each type with."""

_RUNS = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x00\x01\x00\x00",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xdd\x00\x00\xff\xff" * 40,
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\xed\xa0\x80",
)
"""Lengths of four billion and of nearly none, not a number, half of a surrogate pair."""

Change = Callable[[Random, bytearray, bytes], None]
"""Of the bytes, in place; the last argument is another seed."""


class Mutator:
    """An endless supply of near misses of `seeds`."""

    def __init__(self, rng: Random, seeds: Sequence[bytes], *, are_msgpack: bool) -> None:
        self._rng = rng
        self._seeds = seeds
        self._small = [seed for seed in seeds if len(seed) < LARGE] or list(seeds)
        # All at once: what is made later would look like memory that a decoder keeps.
        self._trees = {seed: Tree.of(seed) for seed in seeds} if are_msgpack else {}

    def next(self) -> bytes:
        """One more."""
        rng = self._rng
        seed = rng.choice(self._seeds if rng.randrange(LARGE_EVERY) == 0 else self._small)
        data = seed
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if self._trees and data is seed and rng.random() < 0.7:
                data = self._trees[seed].mutated(rng, self._trees[rng.choice(self._small)])
            else:
                changed = bytearray(data)
                rng.choice(_CHANGES)(rng, changed, rng.choice(self._small))
                data = bytes(changed[: max(SIZE_MAX, len(seed))])
        return data


def _flip_a_bit(rng: Random, data: bytearray, _: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _change_a_byte(rng: Random, data: bytearray, _: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_BYTES)


def _change_a_byte_of_the_start(rng: Random, data: bytearray, _: bytes) -> None:
    """Lengths, kinds and versions stand there."""
    if data:
        data[rng.randrange(min(80, len(data)))] = rng.choice((rng.choice(_BYTES), rng.randrange(256)))


def _cut_the_end(rng: Random, data: bytearray, _: bytes) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _cut_a_piece(rng: Random, data: bytearray, _: bytes) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 1, 2, 4, 16, 64))]


def _repeat_a_piece(rng: Random, data: bytearray, _: bytes) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.choice((1, 2, 4, 16, 64, 1000))] * rng.choice((1, 1, 2, 8))


def _repeat_it_all(rng: Random, data: bytearray, _: bytes) -> None:
    data += bytes(data) * rng.choice((1, 1, 3))


def _insert_a_run(rng: Random, data: bytearray, _: bytes) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.choice(_RUNS)


def _overwrite_with_a_run(rng: Random, data: bytearray, _: bytes) -> None:
    run = rng.choice(_RUNS)
    start = rng.randrange(len(data) + 1)
    data[start : start + len(run)] = run


def _splice(rng: Random, data: bytearray, other: bytes) -> None:
    """The beginning of one and the end of another."""
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


_CHANGES: tuple[Change, ...] = (
    _flip_a_bit,
    _change_a_byte,
    _change_a_byte_of_the_start,
    _cut_the_end,
    _cut_a_piece,
    _repeat_a_piece,
    _repeat_it_all,
    _insert_a_run,
    _overwrite_with_a_run,
    _splice,
)
