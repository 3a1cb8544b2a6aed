"""Have-map: which chunks of one file somebody has. One bit each.

On the wire and on disk the bits of eight chunks share a byte, the first chunk in the
highest bit; bits behind the last chunk are zero.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2p.blobs.errors import BadHaveMap


class HaveMap:
    """The chunks of a file of `chunk_count`, of which nobody has any at first."""

    __slots__ = ("_bits", "chunk_count", "count")

    def __init__(self, chunk_count: int) -> None:
        self.chunk_count = chunk_count
        self.count = 0
        """Chunks that are there."""
        self._bits = bytearray(_size(chunk_count))

    @classmethod
    def full(cls, chunk_count: int) -> HaveMap:
        """All chunks are there."""
        have = cls(chunk_count)
        have._bits[:] = b"\xff" * len(have._bits)
        if unused := len(have._bits) * 8 - chunk_count:
            have._bits[-1] = 0xFF << unused & 0xFF
        have.count = chunk_count
        return have

    @classmethod
    def from_bytes_untrusted(cls, data: bytes, chunk_count: int) -> HaveMap:
        """What `to_bytes` made.

        Raises:
          BadHaveMap: it is not as long as such a map is, or says something of chunks that are not.
        """
        have = cls(chunk_count)
        if len(data) != len(have._bits):
            raise BadHaveMap(f"a have-map of {len(data)} bytes for {chunk_count} chunks")
        unused = len(data) * 8 - chunk_count
        if unused and data[-1] & ((1 << unused) - 1):
            raise BadHaveMap(f"a have-map that has more than the {chunk_count} chunks there are")
        have._bits[:] = data
        have.count = int.from_bytes(data, "big").bit_count()
        return have

    def to_bytes(self) -> bytes:
        """The bits, as described above."""
        return bytes(self._bits)

    def copy(self) -> HaveMap:
        """The same chunks, from now on apart."""
        return HaveMap.from_bytes_untrusted(self.to_bytes(), self.chunk_count)

    @property
    def is_full(self) -> bool:
        """Whether all chunks are there."""
        return self.count == self.chunk_count

    def __contains__(self, chunk: int) -> bool:
        # Not a negative one: Python would count it from the end.
        return 0 <= chunk < self.chunk_count and bool(self._bits[chunk >> 3] & 0x80 >> (chunk & 7))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HaveMap):
            return NotImplemented
        return self.chunk_count == other.chunk_count and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def __repr__(self) -> str:
        return f"HaveMap({self.count} of {self.chunk_count})"

    def add(self, chunk: int) -> bool:
        """`chunk` is there from now on. Whether it was not before.

        Raises:
          IndexError: the file has no such chunk.
        """
        return self._set(chunk, is_there=True)

    def discard(self, chunk: int) -> bool:
        """`chunk` is not there any more. Whether it was.

        Raises:
          IndexError: the file has no such chunk.
        """
        return self._set(chunk, is_there=False)

    def missing(self) -> Iterator[int]:
        """The chunks that are not there, in order."""
        return _ones(~self._number() & _all_ones(self.chunk_count), self.chunk_count)

    def beyond(self, other: HaveMap) -> Iterator[int]:
        """The chunks that are here and not in `other`, a map of the same file, in order."""
        return _ones(self._number() & ~other._number(), self.chunk_count)

    def _number(self) -> int:
        return int.from_bytes(self._bits, "big") >> len(self._bits) * 8 - self.chunk_count

    def _set(self, chunk: int, *, is_there: bool) -> bool:
        if not 0 <= chunk < self.chunk_count:
            raise IndexError(f"chunk {chunk} of {self.chunk_count}")
        if (chunk in self) == is_there:
            return False
        self._bits[chunk >> 3] ^= 0x80 >> (chunk & 7)
        self.count += 1 if is_there else -1
        return True


def _size(chunk_count: int) -> int:
    return (chunk_count + 7) // 8


def _all_ones(count: int) -> int:
    return (1 << count) - 1


def _ones(bits: int, count: int) -> Iterator[int]:
    """Places of the ones in `bits`, counted from the highest of `count`."""
    text = f"{bits:0{count}b}"
    place = text.find("1")
    while place >= 0:
        yield place
        place = text.find("1", place + 1)
