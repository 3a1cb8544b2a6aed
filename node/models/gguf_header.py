"""What a GGUF file says of itself before its weights: metadata and the sizes of its tensors.

    "GGUF" version u32  tensor_count u64  metadata_count u64
    metadata_count x    key  type u32  value
    tensor_count x      name  dimension_count u32  dimensions u64...  type u32  offset u64

Little-endian; a text is its length (u64) and its bytes. The lists of a tokenizer, which are
almost all of it, are stepped over and only counted. Reads without llama.cpp, which would take
a process; and the file comes from the internet, so every length in it is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

_SIZE_MAX = 256 * 2**20
"""Bytes of a header. The largest, with vocabularies of 262,144 tokens and their merges, take 20 MiB."""
_TEXTS_MAX = 2**22
"""In all lists together, four times what the largest have: stepping over one takes 0.2 µs."""
_ENTRIES_MAX = 2**17
"""Metadata values, and tensors. Mixtures of experts with one tensor each have some ten thousand."""
_NUMBERS_KEPT = 2**12
"""A list of numbers up to that long is kept: one for each layer."""
_TEXT_KEPT = 2**10
"""Bytes of a text that is kept: longer ones are templates and licences."""
_DIMENSIONS_MAX = 4
"""Of a tensor, in ggml."""
_READ_SIZE = 2**20

_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""How each of GGUF's number types is packed."""
_TEXT, _LIST = 8, 9
_LENGTH = struct.Struct("<Q")

Number: TypeAlias = int | float
Value: TypeAlias = Number | str | tuple[Number, ...]


class BadHeader(ValueError):
    """A header that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, by name."""

    name: str
    size_bytes: int
    """With the padding behind it."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says of itself."""

    metadata: Mapping[str, Value]
    """Numbers, short texts, and short lists of numbers, by key."""
    list_lengths: Mapping[str, int]
    """Of all lists, by key."""
    tensors: tuple[Tensor, ...]
    """In the order in which they lie in the file."""


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of the file at `path`.

    Raises:
      BadHeader: it is damaged, or of a kind this program does not know.
      OSError: the file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        return _parse(_Cursor(file), size_bytes)


def read_gguf_headers(paths: Sequence[Path]) -> GgufHeader:
    """The header of a model in several files: metadata is in the first, and tensors are in all.

    Raises:
      BadHeader, OSError: as `read_gguf_header`.
    """
    first, *others = (read_gguf_header(path) for path in paths)
    return replace(first, tensors=tuple(tensor for header in (first, *others) for tensor in header.tensors))


def _parse(cursor: _Cursor, file_size: int) -> GgufHeader:
    magic, _, tensor_count, metadata_count = struct.unpack("<4sIQQ", cursor.take(24))
    if magic != b"GGUF":
        raise BadHeader(f"it starts with {magic!r}")
    if max(tensor_count, metadata_count) > _ENTRIES_MAX:
        raise BadHeader(f"{tensor_count} tensors and {metadata_count} values of metadata")
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(metadata_count):
        key, kind = cursor.text(), cursor.u32()
        if kind == _LIST:
            lengths[key], numbers = _read_list(cursor)
            if numbers is not None:
                metadata[key] = numbers
        elif kind != _TEXT:
            metadata[key] = cursor.number(kind)
        elif len(text := cursor.text()) <= _TEXT_KEPT:
            metadata[key] = text
    starts = [_read_tensor(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
        raise BadHeader(f"an alignment of {alignment!r}")
    data_size = file_size - -(-cursor.position // alignment) * alignment
    return GgufHeader(metadata, lengths, _tensors(starts, data_size))


def _read_list(cursor: _Cursor) -> tuple[int, tuple[Number, ...] | None]:
    """Its length, and its numbers if they are few."""
    kind, count = cursor.u32(), cursor.u64()
    if kind == _TEXT:
        cursor.skip_texts(count)
        return count, None
    if count > _NUMBERS_KEPT:
        cursor.skip(count * struct.calcsize(_format(kind)))
        return count, None
    return count, tuple(cursor.number(kind) for _ in range(count))


def _read_tensor(cursor: _Cursor) -> tuple[int, str]:
    """Where its bytes begin, behind the header, and its name."""
    name, dimensions = cursor.text(), cursor.u32()
    if dimensions > _DIMENSIONS_MAX:
        raise BadHeader(f"a tensor of {dimensions} dimensions")
    cursor.skip(8 * dimensions + 4)
    return cursor.u64(), name


def _tensors(starts: list[tuple[int, str]], data_size: int) -> tuple[Tensor, ...]:
    """Each with its size: up to where the next one begins. So no table of ggml's types can be out of date."""
    starts.sort()
    ends = [*(start for start, _ in starts[1:]), data_size]
    if starts and starts[-1][0] > data_size:
        raise BadHeader("its tensors end after the file does")
    return tuple(Tensor(name, end - start) for (start, name), end in zip(starts, ends, strict=False))


def _format(kind: int) -> str:
    try:
        return _NUMBERS[kind]
    except KeyError:
        raise BadHeader(f"a value of the unknown type {kind}") from None


class _Cursor:
    """A place in a file, and what was read ahead of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self._at = 0
        self._read = 0
        """Bytes of the file up to the end of `_data`."""
        self._texts = 0

    @property
    def position(self) -> int:
        return self._read - len(self._data) + self._at

    def take(self, count: int) -> bytes:
        self._have(count)
        self._at += count
        return self._data[self._at - count : self._at]

    def skip(self, count: int) -> None:
        while count > 0:
            step = min(count, _READ_SIZE)
            self._have(step)
            self._at += step
            count -= step

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def number(self, kind: int) -> Number:
        packing = _format(kind)
        [value] = struct.unpack(packing, self.take(struct.calcsize(packing)))
        return value  # type: ignore[no-any-return]  # the formats are of numbers

    def text(self) -> str:
        """Its beginning, if it is long."""
        size = self.u64()
        kept = self.take(min(size, _TEXT_KEPT + 1))
        self.skip(size - len(kept))
        return kept.decode(errors="replace")

    def skip_texts(self, count: int) -> None:
        self._texts += count
        if self._texts > _TEXTS_MAX:
            raise BadHeader(f"lists of {self._texts} texts")
        # As `skip(u64())` for each, without the calls: there are hundreds of thousands.
        data, at, size_of = self._data, self._at, _LENGTH.unpack_from
        while count > 0:
            if at + 8 <= len(data) and (end := at + 8 + size_of(data, at)[0]) <= len(data):
                at = end
            else:
                self._at = at
                self.skip(self.u64())
                data, at = self._data, self._at
            count -= 1
        self._at = at

    def _have(self, count: int) -> None:
        """Read on until there are `count` bytes."""
        if self._at + count <= len(self._data):
            return
        rest = self._data[self._at :]
        more = self._file.read(max(count - len(rest), _READ_SIZE))
        self._read += len(more)
        if self._read > _SIZE_MAX + _READ_SIZE:
            raise BadHeader(f"a header of more than {_SIZE_MAX} bytes")
        self._data, self._at = rest + more, 0
        if len(self._data) < count:
            raise BadHeader("it is cut off")
