"""The waiting room: whose turn it is where slots are taken, and who is sent away since too many wait.

One line per model (`waiting_line.py`), and how many may stand in it.

Says whose turn it is (`in_turn`), and not whether there is a place for it: whoever carries this
out (`room.py`) tries one ticket after the other, and the first that finds a place is admitted.
One that finds none, because it may go to certain nodes only or needs several slots, does not block
those behind it, until it is overdue.

Reads no clock and knows no peers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from federation.waiting_line import Line, Tenant, Ticket
from ledger.records import ModelName

WAITING_MAX = 256
"""Tickets of one model: twice the longest list of prompts that one request may bring. At ten seconds an
answer and four slots the last waits as long as OpenAI's client does, 600 s; more would wait in vain."""

_MODELS_MAX = 256
"""Models whose pace is remembered while nobody asks for them: four times what a peer may report."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """There is no room. `retry_after`: seconds until there is, as things go; None: not known."""

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Evicted:
    """`ticket` had to make room: it is in the room no more."""

    ticket: Ticket
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class Entered:
    """There is room, or the last of who had the most waiting made it."""

    ticket: Ticket
    evicted: Evicted | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The line of one model, for people."""

    waiting: int
    oldest: float
    """Seconds that who came first has waited."""
    estimate: float | None
    """Seconds that one who comes now waits; None: not known."""


class WaitingRoom:
    """Who waits for which model, and in which order they go."""

    def __init__(self) -> None:
        self._lines: dict[ModelName, Line] = {}
        self._numbers = 0

    def enter(
        self, model: ModelName, tenant: Tenant, priority: int, tokens: int, now: float, *, slots: int = 1
    ) -> Entered | Overflow:
        """A ticket for one more request, which costs about `tokens` and needs so many slots at once."""
        self._numbers += 1
        ticket = Ticket(self._numbers, model, tenant, priority, max(1, tokens), now, slots)
        line = self._line(model)
        evicted = None
        if line.waiting() >= WAITING_MAX:
            overflow = Overflow(line.pace.turn_away(now))
            last = line.last_of_the_most(ticket)
            if last is None:
                return overflow
            line.drop(last)
            evicted = Evicted(last, overflow)
        position = line.position(ticket)
        ticket = replace(ticket, position=position, estimate=line.pace.until_free(position + 1, now))
        line.add(ticket)
        return Entered(ticket, evicted)

    def in_turn(self, model: ModelName) -> Iterator[Ticket]:
        """Who goes next; then who does if that one finds no place, and so on. Changes nothing."""
        line = self._lines.get(model)
        return line.in_turn() if line else iter(())

    def is_overdue(self, ticket: Ticket) -> bool:
        """Whether slots are to be kept for it, since too many that need fewer were let past it."""
        return self._lines[ticket.model].is_overdue(ticket)

    def admit(self, ticket: Ticket, now: float) -> None:
        """`ticket` has found a place. It pays, and is in the room no more."""
        line = self._lines[ticket.model]
        line.take(ticket)
        line.pace.begin(ticket.number, now)

    def bring_back(self, ticket: Ticket) -> None:
        """`ticket` was admitted, and had no place after all: it waits where it did before.

        The room may then hold more than `WAITING_MAX`: by as many as have a place now.
        """
        line = self._line(ticket.model)
        line.pace.abandon(ticket.number)
        line.bring_back(ticket)

    def leave(self, ticket: Ticket) -> None:
        """`ticket` waits no more, or had no use of its place: it has cost nothing."""
        line = self._lines[ticket.model]
        if not line.has(ticket):
            self.bring_back(ticket)
        line.drop(ticket)
        self._tidy()

    def release(self, ticket: Ticket, now: float, tokens: int | None = None) -> None:
        """What `ticket` was admitted to is over, and its slot is free.

        `tokens`: that it cost; None: not known.
        """
        line = self._lines[ticket.model]
        line.pace.end(ticket.number, now)
        line.forget(ticket)
        if tokens is not None:
            line.correct(ticket, tokens)
        self._tidy()

    def until_admitted_again(self, ticket: Ticket, now: float) -> float | None:
        """Seconds that `ticket`, if it left and came again, would wait, as things go; None: not known."""
        line = self._lines[ticket.model]
        return line.pace.until_free(line.waiting(), now)

    def report(self, now: float) -> Mapping[ModelName, Waiting]:
        """The line of each model that somebody waits for."""
        return {
            model: Waiting(
                waiting=line.waiting(),
                oldest=now - min(ticket.arrived_at for ticket in line.tickets()),
                estimate=line.pace.until_free(line.waiting() + 1, now),
            )
            for model, line in sorted(self._lines.items())
            if line.classes
        }

    def wanted(self, model: ModelName) -> int:
        """How many slots of `model` they want."""
        line = self._lines.get(model)
        return sum(ticket.slots for ticket in line.tickets()) if line else 0

    def _line(self, model: ModelName) -> Line:
        # Moved to the end, so that those which nobody asks for come first.
        line = self._lines.pop(model, None)
        if line is None:
            line = Line()
        self._lines[model] = line
        return line

    def _tidy(self) -> None:
        """Forget lines that nobody uses; those of names that were made up, which have no pace, at once."""
        unused = [model for model, line in self._lines.items() if not line.classes and not line.pace.held]
        excess = len(self._lines) - _MODELS_MAX
        for number, model in enumerate(unused):
            if number < excess or not self._lines[model].pace.is_known:
                del self._lines[model]
