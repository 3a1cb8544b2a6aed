"""What a download decides: where to go on, what makes a chunk, and when a source is too slow. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, chunk_size


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """How much patience a download has. How long a source may be silent is the client's
    (`source_client.py`)."""

    speed_min: float = 2048.0
    """Bytes per second: at this speed a small model takes a day, and another source or another day is
    better."""
    speed_window: float = 60.0
    """Seconds of waiting that are looked at together: a line that is used by others stops for some of
    them."""
    attempts_max: int = 8
    """In a row and per source, that bring next to nothing. With the waits between them: a router that
    restarts."""
    progress_min: int = 64 * 1024
    """Bytes. A source that sends one byte per connection would keep us busy for ever."""
    wait_first: float = 0.5
    wait_max: float = 30.0
    """Seconds between attempts, doubled each time."""
    retry_after_max: float = 300.0
    """Seconds that a source may ask us to wait. Of more than that a person should hear."""
    renewals_max: int = 3
    """How often a file may change at its source while it is downloaded."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of the file, `end` not among them."""

    start: int
    end: int


@dataclass(slots=True)
class Assembly:
    """Makes whole chunks of pieces of any size. What a connection that broke left of a chunk is kept."""

    size_bytes: int
    position: int = 0
    """Where in the file the next byte belongs."""
    _pending: bytearray = field(default_factory=bytearray)
    """The bytes of its chunk before it."""

    def wanted(self, have: HaveMap) -> Stretch | None:
        """The first bytes that are missing, up to the next that are there. None: all are there."""
        first = next(have.missing(), None)
        if first is None:
            return None
        behind = first
        while behind < have.chunk_count and behind not in have:
            behind += 1
        chunk = self.position // CHUNK_SIZE
        start = self.position if self._pending and chunk == first else first * CHUNK_SIZE
        return Stretch(start, min(behind * CHUNK_SIZE, self.size_bytes))

    def go_to(self, position: int) -> None:
        """The next byte belongs to `position`: where one was, or where a chunk begins."""
        if position != self.position:
            self.position = position
            self._pending.clear()

    def take(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The chunks that `piece`, which belongs at `position`, makes whole."""
        view = memoryview(piece)
        while view:
            chunk = self.position // CHUNK_SIZE
            size = chunk_size(self.size_bytes, chunk)
            part = view[: size - len(self._pending)]
            self._pending += part
            self.position += len(part)
            view = view[len(part) :]
            if len(self._pending) == size:
                data = bytes(self._pending)
                self._pending.clear()
                yield chunk, data

    def bytes_there(self, have: HaveMap) -> int:
        """Bytes of the file that need not come again."""
        last = have.chunk_count - 1
        full = have.count * CHUNK_SIZE
        if last in have:
            full -= CHUNK_SIZE - chunk_size(self.size_bytes, last)
        return full + (0 if self.position // CHUNK_SIZE in have else len(self._pending))


@dataclass(slots=True)
class SpeedWatch:
    """Whether a source is too slow to go on with. Counts the time spent waiting for it, not for our disk."""

    limits: DownloadLimits
    _bytes: int = 0
    _seconds: float = 0.0

    def is_too_slow(self, size_bytes: int, waited: float) -> bool:
        """Now that `size_bytes` came after `waited` seconds."""
        self._bytes += size_bytes
        self._seconds += waited
        if self._seconds < self.limits.speed_window:
            return False
        is_slow = self._bytes < self.limits.speed_min * self._seconds
        self._bytes, self._seconds = 0, 0.0
        return is_slow


def wait_before(attempt: int, limits: DownloadLimits, *, chance: float) -> float:
    """Seconds to wait before the attempt after `attempt` (from 1) that brought nothing.

    `chance` (0 to 1) spreads those who were cut off together.
    """
    return min(limits.wait_max, limits.wait_first * 2.0 ** min(attempt - 1, 32)) * (0.5 + chance / 2)
