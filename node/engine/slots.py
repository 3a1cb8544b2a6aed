"""Slots: which sequence of the context a prompt gets, and how much of it is there already.

A slot keeps its tokens when it is free again. The next prompt that begins like them needs
no prefill for that part: it goes on in that slot, or copies the part into another one.

    a slot's tokens      t t t t t t a a a         prompt  t t t t t t b b
    go on in it          t t t t t t b b           little is lost
    copy from it         t t t t t t  --> another  much would be, or somebody is at work there

Copies share the memory of what they have in common, so nothing here takes more than the
context has anyway. The last token of a prompt is decoded in any case: the answer begins
with its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

COMMON_MIN = 16
"""Tokens. The first words of a chat template are the same for everybody, and sooner read than looked up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prompt goes."""

    slot: int
    kept: int = 0
    """Tokens of the prompt that need no decoding; what the slot holds beyond them has to go."""
    source: int | None = None
    """The slot to copy them from. None: they are there."""


@dataclass(slots=True)
class _Slot:
    number: int
    tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """What is in its sequence; of one that is taken, its prompt."""
    held: int = 0
    """So many of `tokens` are in the context."""
    is_taken: bool = False
    touched: int = 0
    """When it was taken or left, counted in such events."""


class Slots:
    """All slots of one engine.

    `can_rewind`: the model can forget the end of a sequence. Recurrent ones cannot: there a sequence is
    gone on with whole, or not at all.
    """

    def __init__(self, count: int, *, can_rewind: bool) -> None:
        self._slots = [_Slot(number) for number in range(count)]
        self._can_rewind = can_rewind
        self._events = 0

    def take(self, prompt: Sequence[int], *, may_reuse: bool = True) -> Place:
        """The best place for `prompt`. One must be free. `may_reuse`: what others left there will do."""
        tokens = np.asarray(prompt, np.int32)
        place = self._best(tokens) if may_reuse else Place(self._emptiest().number)
        slot = self._slots[place.slot]
        slot.tokens, slot.held, slot.is_taken = tokens, place.kept, True
        self._touch(slot)
        return place

    def advance(self, number: int, held: int) -> None:
        """So many tokens of its sequence are in the context now."""
        slot = self._slots[number]
        slot.held = min(held, len(slot.tokens))

    def leave(self, number: int, tokens: Sequence[int]) -> None:
        """It is free again, and its sequence holds `tokens`."""
        slot = self._slots[number]
        slot.tokens, slot.held, slot.is_taken = np.asarray(tokens, np.int32), len(tokens), False
        self._touch(slot)

    def _best(self, tokens: NDArray[np.int32]) -> Place:
        common = [self._common(slot, tokens) for slot in self._slots]
        # Of two that hold as much, the free one: there nothing has to be copied.
        best = max(self._slots, key=lambda slot: (common[slot.number], not slot.is_taken))
        kept = common[best.number]
        emptiest = self._emptiest()
        if kept < COMMON_MIN:
            return Place(emptiest.number)
        if best is emptiest or (not best.is_taken and self._is_little_lost(best, kept)):
            return Place(best.number, kept)
        return Place(emptiest.number, kept, source=best.number)

    def _emptiest(self) -> _Slot:
        """The free one that will be missed least: empty, or else not touched for the longest time."""
        free = [slot for slot in self._slots if not slot.is_taken]
        return min(free, key=lambda slot: (slot.held > 0, slot.touched))

    def _common(self, slot: _Slot, tokens: NDArray[np.int32]) -> int:
        """How many of `tokens` need no decoding there."""
        length = min(slot.held, len(tokens))
        different = np.flatnonzero(slot.tokens[:length] != tokens[:length])
        common = min(int(different[0]) if len(different) else length, len(tokens) - 1)
        if self._can_rewind:
            return common
        return common if common == slot.held and not slot.is_taken else 0

    def _is_little_lost(self, slot: _Slot, kept: int) -> bool:
        # Of a conversation that goes on, the end of the last answer at most.
        return not self._can_rewind or 2 * kept >= slot.held

    def _touch(self, slot: _Slot) -> None:
        self._events += 1
        slot.touched = self._events
