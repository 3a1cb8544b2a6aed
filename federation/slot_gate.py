"""The slot gate: which front gets a slot of this node's models.

Every node is a front, and several of them may send requests here, this one among them. Who
comes while all slots are taken is refused at once, and remembered. A slot that frees is then
offered to those who wait, one after the other, and held for whoever's turn it is:

    front a        gate                    front b
      | -- asks --> |  takes the last slot     |
      |             | <------------- asks ---- |
      |             | -- refused, busy ------> |  remembered, for 10 s or as long as it says that it waits
      | -- ends --> |                          |
      |             | -- offer --------------> |  held for 0.5 s: nobody else gets it
      |             | <------------- asks ---- |

So fronts share a node by turns, whatever each of them sends, and nobody polls. Who asks for several slots
at once is offered them together. Where single requests keep coming there would never be as many: once some
were let past it, what frees is kept for it until there are.

Counts what it let in itself: an engine says that a slot is taken only once a prompt was made
and the model loaded, which is too late where many ask at once. Reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ledger.records import ModelName
from p2p.peer import PeerId

HELD_FOR = 0.5
"""Seconds that an offered slot is held: a round trip anywhere on Earth, and a moment for a busy front. A slot
that nobody came for was idle for so long."""

REMEMBERED_FOR = 10.0
"""Seconds that a refused front counts as waiting if it says nothing else: until then it has asked again or
given up."""

FRONTS_MAX = 256
"""Waiting fronts per model: more than a home has nodes. Others are refused all the same, and hear of a free
slot by our load."""

WANTED_MAX = 256
"""Slots that one front may say it waits for: as many requests as may wait there."""

PASSED_OVER_MAX = 8
"""Requests that may be let past one that needs more slots at once: as in a front's own room."""

_NOBODY = PeerId("")
"""For whom a slot is held that is not to be used."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Tell `front` that a slot of `model` is held for it, `HELD_FOR` seconds long."""

    front: PeerId
    model: ModelName


@dataclass(slots=True)
class _Wish:
    """What one front waits for."""

    wanted: int
    """Slots."""
    until: float
    at_once: int = 1
    """Of those, what the largest request that was refused needs."""
    passed_over: int = 0
    """Requests of other fronts that were let in meanwhile, and needed fewer."""

    @property
    def is_overdue(self) -> bool:
        """What frees is kept for it."""
        return self.at_once > 1 and self.passed_over >= PASSED_OVER_MAX


@dataclass(slots=True)
class _Model:
    """The slots of one model. `wishes` are in the order of their turns."""

    taken: int = 0
    held: dict[PeerId, list[float]] = field(default_factory=dict)
    """Until when, for each slot."""
    wishes: dict[PeerId, _Wish] = field(default_factory=dict)

    @property
    def is_unused(self) -> bool:
        return not (self.taken or self.held or self.wishes)

    def held_count(self, *, apart_from: PeerId | None = None) -> int:
        return sum(len(until) for front, until in self.held.items() if front != apart_from)

    def let_go(self, front: PeerId, slots: int) -> None:
        """`front` has no need of so many of the slots held for it any more, or has taken them."""
        left = self.held.get(front, [])[slots:]
        if left:
            self.held[front] = left
        else:
            self.held.pop(front, None)

    def want_less(self, front: PeerId, slots: int) -> None:
        if (wish := self.wishes.get(front)) is not None:
            wish.wanted -= slots
            if wish.wanted <= 0:
                del self.wishes[front]

    def kept_for(self) -> PeerId | None:
        """For whom all is kept that is free, since it needs more."""
        return next((front for front, wish in self.wishes.items() if wish.is_overdue), None)

    def let_past(self, front: PeerId, slots: int) -> None:
        """`front` is let in with so many."""
        for other, wish in self.wishes.items():
            if other != front and wish.at_once > slots:
                wish.passed_over += 1

    def next_in_turn(self, free: int) -> tuple[PeerId, int] | None:
        """Who is to be offered how many of the `free` slots, and has its next turn after the others."""
        kept_for = self.kept_for()
        for front, wish in self.wishes.items():
            if wish.wanted <= len(self.held.get(front, ())) or kept_for not in (None, front):
                continue
            if wish.at_once <= free:
                slots, wish.at_once, wish.passed_over = wish.at_once, 1, 0
            elif wish.is_overdue or wish.wanted <= wish.at_once:
                continue
            else:
                slots = 1  # For one of those that it waits for besides.
            self.wishes[front] = self.wishes.pop(front)
            return front, slots
        return None


class SlotGate:
    """Who has the slots of each model, who is offered one, and who waits."""

    def __init__(self, slots_total: Callable[[ModelName], int]) -> None:
        """`slots_total`: of a model now; 0: it has none, and its worker says why."""
        self._slots_total = slots_total
        self._models: dict[ModelName, _Model] = {}
        self._reachable: set[PeerId] = set()

    @property
    def wake_at(self) -> float:
        """When `on_time` is due."""
        ends = [end for model in self._models.values() for held in model.held.values() for end in held]
        wishes = [wish for model in self._models.values() for wish in model.wishes.values()]
        overdue = [wish.until for wish in wishes if wish.is_overdue]
        return min([*ends, *overdue], default=math.inf)

    def taken(self, model: ModelName) -> int:
        """Slots that are in use, or not to be had for somebody else's sake."""
        each = self._models.get(model)
        if each is None:
            return 0
        taken = each.taken + each.held_count()
        return taken if each.kept_for() is None else max(taken, self._slots_total(model))

    def enter(self, front: PeerId, model: ModelName, slots: int, now: float) -> bool:
        """`front` asks for so many slots at once. Whether it has them; if not, it is remembered, if it can be
        told when there are.

        More than there are at all pass: the worker has words for that, as for a model that has none.
        """
        total = self._slots_total(model)
        each = self._models.setdefault(model, _Model())
        free = total - each.taken - each.held_count(apart_from=front)
        if each.kept_for() not in (None, front):
            free = len(each.held.get(front, ()))
        if slots > free and slots <= total:
            self._remember(each, front, slots, now)
            return False
        each.taken += slots
        each.let_past(front, slots)
        each.let_go(front, slots)
        each.want_less(front, slots)
        return True

    def leave(self, model: ModelName, slots: int, now: float, *, rests_for: float = 0.0) -> list[Offer]:
        """What somebody had is free again, after it has rested for so many seconds."""
        each = self._models[model]
        each.taken -= slots
        assert each.taken >= 0
        if rests_for:
            each.held.setdefault(_NOBODY, []).extend([now + rests_for] * slots)
        return self._offer(model, now)

    def wait(self, front: PeerId, model: ModelName, wanted: int, now: float) -> list[Offer]:
        """`front` says that it waits for so many slots from now on; 0: for none."""
        each = self._models.setdefault(model, _Model())
        surplus = len(each.held.get(front, ())) - wanted
        if surplus > 0:
            each.let_go(front, surplus)
        if wanted <= 0:
            each.wishes.pop(front, None)
        elif front in each.wishes or len(each.wishes) < FRONTS_MAX:
            wish = each.wishes.setdefault(front, _Wish(0, 0.0))
            wish.wanted, wish.until = min(wanted, WANTED_MAX), math.inf
            wish.at_once = min(wish.at_once, wish.wanted)
        return self._offer(model, now)

    def meet(self, front: PeerId) -> None:
        """`front` can be told of offers from now on."""
        self._reachable.add(front)

    def lose(self, front: PeerId, now: float) -> list[Offer]:
        """`front` cannot be told of offers any more."""
        self._reachable.discard(front)
        offers = []
        for model, each in list(self._models.items()):
            each.wishes.pop(front, None)
            each.held.pop(front, None)
            offers += self._offer(model, now)
        return offers

    def on_time(self, now: float) -> list[Offer]:
        """Offer to the next what nobody came for."""
        offers = []
        for model, each in list(self._models.items()):
            for front, held in list(each.held.items()):
                late = sum(end <= now for end in held)
                if late:
                    # It would be offered the same again, and the slot would stay idle. Who still waits asks.
                    each.let_go(front, late)
                    each.want_less(front, late)
            offers += self._offer(model, now)
        return offers

    def _remember(self, each: _Model, front: PeerId, slots: int, now: float) -> None:
        wish = each.wishes.get(front)
        if wish is None and front in self._reachable and len(each.wishes) < FRONTS_MAX:
            wish = each.wishes[front] = _Wish(slots, now)
        if wish is not None:
            wish.until = max(wish.until, now + REMEMBERED_FOR)
            wish.at_once = max(wish.at_once, slots)
            wish.wanted = max(wish.wanted, slots)

    def _offer(self, model: ModelName, now: float) -> list[Offer]:
        each = self._models[model]
        total = self._slots_total(model)
        for front, wish in list(each.wishes.items()):
            # Its worker may have fewer now.
            wish.at_once = min(wish.at_once, max(total, 1))
            if wish.until <= now:
                del each.wishes[front]
        offers: list[Offer] = []
        free = total - each.taken - each.held_count()
        while free > 0 and (turn := each.next_in_turn(free)) is not None:
            front, slots = turn
            each.held.setdefault(front, []).extend([now + HELD_FOR] * slots)
            offers += [Offer(front, model)] * slots
            free -= slots
        if each.is_unused:
            del self._models[model]
        return offers
