"""Vectors as backends hand them out: 32-bit floats, little-endian, which is OpenAI's base64 as well."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from api.collected import CollectedAnswer
from federation.errors import Misbehaved

FLOAT_SIZE = 4


def vectors_of(collected: CollectedAnswer, count: int) -> list[bytes]:
    """The vectors of `count` inputs.

    Raises:
      Misbehaved: there is none of some input.
    """
    vectors = [choice.vector for choice in collected.choices(count)]
    if not all(vectors):
        raise Misbehaved("the answer leaves inputs out")
    return vectors


def numbers_in(vector: bytes) -> tuple[float, ...]:
    """The numbers of `vector`.

    Raises:
      Misbehaved: it is not made of numbers, or some of them are infinite.
    """
    if len(vector) % FLOAT_SIZE:
        raise Misbehaved("the answer breaks off within a number")
    numbers = struct.unpack(f"<{len(vector) // FLOAT_SIZE}f", vector)
    if not all(map(math.isfinite, numbers)):
        raise Misbehaved("the model gave a vector of numbers that are none")
    return numbers


def shortened(vector: bytes, size: int) -> bytes:
    """The first `size` numbers of `vector`, scaled to the length of 1 again."""
    numbers = numbers_in(vector[: size * FLOAT_SIZE])
    length = math.hypot(*numbers) or 1.0
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))


def number_words(numbers: Sequence[float]) -> str:
    """JSON of `numbers`, with the nine digits that tell any two 32-bit floats apart."""
    return f"[{','.join([f'{number:.9g}' for number in numbers])}]"
