"""One seeder as a fetch sees it: what it owes, how fast it gives, and until when it may be silent.

A seeder gives what it is asked for in order, so of two chunks that it owes the second one begins when the
first one is done. Reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from p2p.blobs.fetch_events import FetchConfig
from p2p.blobs.manifest import CHUNK_SIZE

_PIECE_SIZE = 64 * 1024
"""Bytes of one chunk that count as a sign of life: who gives one byte now and then gives nothing."""
_SAMPLE_TIME = 0.25
"""Seconds over which speed is measured: some chunks of a fast seeder, some pieces of a slow one."""
_GAP_MAX = 1.0
"""Seconds between two pieces that say nothing of a seeder's speed: a turn of others that it gives to."""


@dataclass(slots=True)
class _Owed:
    """One chunk that was asked for."""

    size_bytes: int
    arrived: int = 0


@dataclass(slots=True)
class AskedSeeder:
    """A seeder, and what is under way from it."""

    config: FetchConfig
    owed: dict[int, _Owed] = field(default_factory=dict)
    """By chunk, in the order in which they were asked for."""
    rests_until: float = -math.inf
    """It is not asked before."""
    _rest: float = 0.0
    _speed: float | None = None
    _sample_time: float = 0.0
    """Seconds of the sample in which it owed something, until `_counted_at`."""
    _sample_bytes: int = 0
    _counted_at: float = 0.0
    _heard_at: float = 0.0

    def asked(self, chunk: int, size_bytes: int, now: float) -> None:
        """It owes `chunk`."""
        if not self.owed:
            self._counted_at = self._heard_at = now
        self.owed[chunk] = _Owed(size_bytes)

    def settled(self, chunk: int) -> int:
        """It does not owe `chunk` any more. Returns the bytes of it that had come."""
        owed = self.owed.pop(chunk, None)
        return owed.arrived if owed else 0

    def was_late(self, now: float) -> None:
        """What it owes is taken away from it. If that is for its silence, it is not believed to be as fast as
        before, or two that have stopped would take turns."""
        if self._silence(now):
            self._speed = self.speed / 2

    def gave(self, chunk: int, size_bytes: int, now: float) -> None:
        """So many bytes more of `chunk` arrived."""
        owed = self.owed[chunk]
        before, owed.arrived = owed.arrived, owed.arrived + size_bytes
        if owed.arrived // _PIECE_SIZE > before // _PIECE_SIZE or owed.arrived >= owed.size_bytes:
            self._heard_at = now
        if owed.arrived >= owed.size_bytes:
            # Not for less: who refuses amid a chunk would be asked as fast as it can do that.
            self._rest = 0.0
        self._sample_bytes += size_bytes
        self._sample_time += now - self._counted_at
        self._counted_at = now
        if self._sample_time >= _SAMPLE_TIME:
            sample = self._sample_bytes / self._sample_time
            self._speed = sample if self._speed is None else (self._speed + sample) / 2
            self._sample_bytes, self._sample_time = 0, 0.0

    def refused(self, now: float, rng: Random) -> None:
        """It gives nothing for now. Ask it again later, and later each time."""
        self._rest = min(max(2 * self._rest, self.config.rest_min), self.config.rest_max)
        self.rests_until = now + self._rest * rng.uniform(0.5, 1.0)

    @property
    def speed(self) -> float:
        """Bytes a second when it gave last; a guess while it was not measured."""
        return max(1.0, self._speed or self.config.speed_assumed)

    @property
    def window(self) -> int:
        """Chunks that it should owe: half a second's work."""
        config = self.config
        if self._speed is None:
            return config.window_min
        work = math.ceil(self._speed * config.work_under_way / CHUNK_SIZE)
        return max(config.window_min, min(config.window_max, work))

    def has_room(self, now: float) -> bool:
        """Whether it may be asked for one chunk more."""
        return self.rests_until <= now and len(self.owed) < self.window

    def times_until(self, now: float) -> Iterator[tuple[int, float]]:
        """Each chunk that it owes, and the seconds until it should be here."""
        ahead, speed, silence = 0, self.speed, self._silence(now)
        for chunk, owed in self.owed.items():
            ahead += owed.size_bytes - owed.arrived
            yield chunk, ahead / speed + silence

    def time_for(self, size_bytes: int, now: float) -> float:
        """Seconds until so many bytes more would be here, after what it owes already."""
        ahead = sum(owed.size_bytes - owed.arrived for owed in self.owed.values())
        return (ahead + size_bytes) / self.speed + self._silence(now)

    def _silence(self, now: float) -> float:
        """Seconds that it has given nothing, beyond what is usual: it may well take as long again."""
        return max(0.0, now - self._counted_at - _GAP_MAX) if self.owed else 0.0

    @property
    def silent_at(self) -> float:
        """When its silence has lasted too long."""
        if not self.owed:
            return math.inf
        if self._speed is None:
            return self._heard_at + self.config.silence_max
        patience = self.config.silence_chunks * CHUNK_SIZE / max(1.0, self._speed)
        return self._heard_at + max(self.config.silence_min, min(self.config.silence_max, patience))
