"""The pace of a line: how fast slots free for those who wait in it.

Not a count of what ended lately, which says more about how many asked than about how long
answers take: our requests hold so many slots now, each for so long on average, so one of them
frees every `seconds / held`. That is as true in the first second of a rush as later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_WEIGHT = 0.2
"""Of the newest in the mean: the last dozen answers count, so it follows when other work comes."""

_TURNED_AWAY_MAX = 256
"""As many as may wait (`waiting_room.py`): who asks again and again is counted each time, and nobody is told
to wait for longer than those in the room do."""


@dataclass(slots=True)
class Pace:
    """How long our requests for one model hold their slots, and how many do."""

    seconds: float | None = None
    """A slot was held for, on average; None: none was yet."""
    turned_away: int = 0
    """Who was told to come back: each gets one of the places that free."""
    _since: dict[int, float] = field(default_factory=dict)
    """When each slot that is held now was taken, by the number of who holds it."""

    @property
    def held(self) -> int:
        """Slots that are held now."""
        return len(self._since)

    @property
    def is_known(self) -> bool:
        """It was measured."""
        return self.seconds is not None

    def begin(self, number: int, now: float) -> None:
        """A slot was taken."""
        self._since[number] = now

    def abandon(self, number: int) -> None:
        """It was not, after all."""
        del self._since[number]

    def end(self, number: int, now: float) -> None:
        """A slot is free again."""
        held_for = now - self._since.pop(number)
        self.turned_away = max(0, self.turned_away - 1)
        self.seconds = held_for if self.seconds is None else (1 - _WEIGHT) * self.seconds + _WEIGHT * held_for

    def turn_away(self, now: float) -> float | None:
        """One more is sent away: seconds until there is a place for it, that is one which was not promised to
        those sent away before; None: not known."""
        self.turned_away = min(self.turned_away + 1, _TURNED_AWAY_MAX)
        return self.until_free(self.turned_away, now)

    def until_free(self, slots: int, now: float) -> float | None:
        """Seconds until so many slots were freed for us; None: not known.

        Where others hold all slots none of ours ends: then one of theirs does, and it may be ours.
        """
        if self.seconds is None:
            return None
        # Where those that run have run for longer than those that ended, other work has come.
        age = now - sum(self._since.values()) / self.held if self._since else 0.0
        return slots * max(self.seconds, age) / max(1, self.held)
