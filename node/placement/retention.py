"""Which copies of ours others rely on, and which we may give up. Reads no clock.

    we: begin(file) ---- keep? ----> others that the plan names
                    <--- kept -----  each promises not to give up its own for `PROMISE`
    enough of them: the file goes. Not enough: end(file), and later again.

Views differ: two nodes may each believe that the other one's copy is to stay. So who is about to give up a
copy promises nothing, and who has promised gives up nothing. In the moment in which a copy goes, as many
others as are wanted exist and are promised; whatever anybody believes, the last ones stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PROMISE = 600.0
"""Seconds."""
GIVING_UP_MAX = PROMISE / 2
"""Seconds from the first question until the file is gone: answers that still run on it end first. No clock is
twice as fast as another."""


@dataclass(slots=True)
class Retention:
    """Promises, and what is about to go. Files are known by their sha256."""

    _promised_until: dict[str, float] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)

    def promise(self, sha256: str, now: float) -> bool:
        """Somebody relies on our copy of that file; returns whether we keep it for `PROMISE` seconds."""
        if sha256 in self._leaving:
            return False
        self._promised_until = {file: until for file, until in self._promised_until.items() if until > now}
        self._promised_until[sha256] = now + PROMISE
        return True

    def begin(self, sha256: str, now: float) -> bool:
        """Whether we may ask others, in order to give up our copy; promises nothing until `end`."""
        if self._promised_until.get(sha256, now) > now:
            return False
        self._leaving.add(sha256)
        return True

    def end(self, sha256: str) -> None:
        """It is gone, or it stays."""
        self._leaving.discard(sha256)
