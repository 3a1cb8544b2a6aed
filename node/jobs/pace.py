"""How fast something goes, and when it will be done. Reads no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_WINDOW = 5.0
"""Seconds that are looked back on: long enough to be read, short enough to show that it stopped."""
_SPAN_MIN = 1.0
"""Seconds before anything is said: a model begins with a few hundred bytes of settings and a look for who has
the rest, by which it would last for days."""
_MARKS_MAX = 64
"""In those: one in eight hundredths of a second."""


@dataclass(slots=True)
class Pace:
    """Bytes over time."""

    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MARKS_MAX))

    def note(self, done_bytes: int, now: float) -> None:
        """So much is done by `now`. Less than before: it began anew."""
        if self._marks and done_bytes < self._marks[-1][1]:
            self._marks.clear()
        if not self._marks or now - self._marks[-1][0] >= _WINDOW / _MARKS_MAX:
            self._marks.append((now, done_bytes))
        while len(self._marks) > 1 and now - self._marks[1][0] >= _WINDOW:
            self._marks.popleft()

    def speed(self, done_bytes: int, now: float) -> float:
        """Bytes per second, of late; 0 until there was time to tell."""
        if not self._marks:
            return 0.0
        since, before = self._marks[0]
        return (done_bytes - before) / (now - since) if now - since >= _SPAN_MIN else 0.0
