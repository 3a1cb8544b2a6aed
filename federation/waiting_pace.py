"""The pace of a line: how fast slots free for those who wait in it.

Not a count of what ended lately, which says more about how many asked than about how long
answers take: our requests hold so many slots now, each for so long on average, so one of them
frees every `seconds / held`. That is as true in the first second of a rush as later.
"""

from __future__ import annotations

from dataclasses import dataclass

_WEIGHT = 0.2
"""Of the newest in the mean: the last dozen answers count, so it follows when other work comes."""

_TURNED_AWAY_MAX = 256
"""As many as may wait (`waiting_room.py`): who asks again and again is counted each time, and nobody is told
to wait for longer than those in the room do."""


@dataclass(slots=True)
class Pace:
    """How long our requests for one model hold their slots, and how many do."""

    seconds: float | None = None
    """A slot is held for, on average; None: none was yet."""
    held: int = 0
    """Slots that are held now."""
    turned_away: int = 0
    """Who was told to come back: each gets one of the places that free."""

    @property
    def is_known(self) -> bool:
        """It was measured."""
        return self.seconds is not None

    def begin(self) -> None:
        """A slot was taken."""
        self.held += 1

    def abandon(self) -> None:
        """It was not, after all."""
        assert self.held > 0
        self.held -= 1

    def end(self, held_for: float) -> None:
        """A slot is free again, after so many seconds."""
        self.abandon()
        self.turned_away = max(0, self.turned_away - 1)
        self.seconds = held_for if self.seconds is None else (1 - _WEIGHT) * self.seconds + _WEIGHT * held_for

    def turn_away(self) -> float | None:
        """One more is sent away: seconds until there is a place for it, that is one which was not promised to
        those sent away before; None: not known."""
        self.turned_away = min(self.turned_away + 1, _TURNED_AWAY_MAX)
        return self.until_free(self.turned_away)

    def until_free(self, slots: int) -> float | None:
        """Seconds until so many slots were freed for us; None: not known.

        Where others hold all slots none of ours ends: then one of theirs does, and it may be ours.
        """
        return None if self.seconds is None else slots * self.seconds / max(1, self.held)
