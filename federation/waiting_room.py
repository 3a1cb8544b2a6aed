"""The waiting room: whose turn it is where a model's slots are taken.

One line per model. In it a larger priority goes first; within one priority the tenants take
turns, a request each, and whoever has spent more tokens than it was given sits its turns out:

    deficit round robin   M. Shreedhar, G. Varghese: Efficient Fair Queueing Using Deficit Round Robin, 1995
    with debts            a request goes once its tenant's balance is above 0, and is paid for afterwards, as
                          in fq_codel (RFC 8290): nobody saves up for a long prompt while a slot is free

So who comes new waits for one request of each other tenant at most, however many those sent
before; and of tenants that always wait each gets the same number of tokens. Within a tenant it
is first come, first served.

Says whose turn it is (`in_turn`), and not whether there is a place for it: whoever carries this
out (`room.py`) tries one ticket after the other, and the first that finds a place is admitted.
One that finds none, because it may go to certain nodes only, does not block those behind it.

Reads no clock and knows no peers.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NewType

from federation.waiting_pace import Pace
from ledger.records import ModelName

WAITING_MAX = 256
"""Tickets of one model: twice the longest list of prompts that one request may bring. At ten seconds an
answer and four slots the last waits as long as OpenAI's client does, 600 s; more would wait in vain."""

QUANTUM = 512
"""Tokens that each tenant is given per round: a short answer. Nobody gets further ahead of another than this
and one request."""

PASSED_OVER_MAX = 8
"""Guess: requests of larger priority that may go before one of a smaller one. So even where there are always
some, one slot in nine goes to the rest, and nothing starves."""

_MODELS_MAX = 256
"""Models whose pace is remembered while nobody asks for them: four times what a peer may report."""

Tenant = NewType("Tenant", str)
"""Who shares fairly: all requests that showed one API key."""


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """One waiting request. Its number is its place among those of its tenant, also when it comes back."""

    number: int
    model: ModelName
    tenant: Tenant
    priority: int
    tokens: int
    """That it is likely to cost: its prompt and its answer."""
    arrived_at: float
    position: int = 0
    """How many would have been admitted before it when it came."""


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


@dataclass(slots=True)
class _Share:
    """One tenant's part of a class."""

    balance: int = QUANTUM
    """Tokens it may still spend; below 0 it has spent more than it was given."""
    tickets: list[Ticket] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How many rounds must pass until it may go."""
        return 0 if self.balance > 0 else -self.balance // QUANTUM + 1

    def give(self, tokens: int) -> None:
        # No more than one round's: who was away, or found no place, does not come back with a hoard.
        self.balance = min(QUANTUM, self.balance + tokens)


@dataclass(slots=True)
class _Class:
    """Those of one priority. `shares` are in the order of their turns."""

    shares: dict[Tenant, _Share] = field(default_factory=dict)
    passed_over: int = 0
    """Requests of larger priority that went since one of ours did."""

    def in_turn(self) -> Iterator[Ticket]:
        """Who would be next, then who if that one found no place, and so on."""
        # Sorting keeps the order of turns among those that need equally many rounds.
        for share in sorted(self.shares.values(), key=lambda share: share.rounds):
            yield from share.tickets

    def take(self, ticket: Ticket) -> None:
        """`ticket` goes: let the rounds pass that it needs, and charge it."""
        share = self.shares[ticket.tenant]
        if rounds := share.rounds:
            for each in self.shares.values():
                each.give(rounds * QUANTUM)
        share.tickets.remove(ticket)
        share.balance -= ticket.tokens
        self.shares[ticket.tenant] = self.shares.pop(ticket.tenant)
        self._forget()

    def bring_back(self, ticket: Ticket) -> None:
        """Undo `take`: what it paid, and its turn."""
        share = self.shares.pop(ticket.tenant, None) or _Share(QUANTUM - ticket.tokens)
        share.balance += ticket.tokens
        insort(share.tickets, ticket)
        self.shares = {ticket.tenant: share, **self.shares}

    def drop(self, ticket: Ticket) -> None:
        self.shares[ticket.tenant].tickets.remove(ticket)
        self._forget()

    def waiting(self) -> int:
        return sum(len(share.tickets) for share in self.shares.values())

    def _forget(self) -> None:
        """Keep of those that wait for nothing only who has spent more than it was given, and not too many."""
        idle = [tenant for tenant, share in self.shares.items() if not share.tickets]
        excess = len(idle) - WAITING_MAX
        for number, tenant in enumerate(idle):
            if number < excess or self.shares[tenant].balance >= QUANTUM:
                del self.shares[tenant]


@dataclass(slots=True)
class _Line:
    """Those that wait for one model, by priority, and how fast they go."""

    classes: dict[int, _Class] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)

    def in_turn(self) -> Iterator[Ticket]:
        for priority in self._priorities():
            yield from self.classes[priority].in_turn()

    def _priorities(self) -> list[int]:
        """The largest first, but for those that were passed over too often."""
        return sorted(
            self.classes,
            key=lambda priority: (
                -max(0, self.classes[priority].passed_over - PASSED_OVER_MAX + 1),
                -priority,
            ),
        )

    def add(self, ticket: Ticket) -> None:
        shares = self.classes.setdefault(ticket.priority, _Class()).shares
        shares.setdefault(ticket.tenant, _Share()).tickets.append(ticket)

    def take(self, ticket: Ticket) -> None:
        own = self.classes[ticket.priority]
        own.take(ticket)
        own.passed_over = 0
        for priority, each in self.classes.items():
            if priority < ticket.priority:
                each.passed_over += 1
        self._forget(ticket.priority)

    def bring_back(self, ticket: Ticket) -> None:
        self.classes.setdefault(ticket.priority, _Class()).bring_back(ticket)

    def drop(self, ticket: Ticket) -> None:
        self.classes[ticket.priority].drop(ticket)
        self._forget(ticket.priority)

    def correct(self, ticket: Ticket, tokens: int) -> None:
        """`ticket` has paid for another number of tokens than it took."""
        own = self.classes.get(ticket.priority)
        if own and (share := own.shares.get(ticket.tenant)):
            share.give(ticket.tokens - tokens)

    def has(self, ticket: Ticket) -> bool:
        own = self.classes.get(ticket.priority)
        share = own.shares.get(ticket.tenant) if own else None
        return share is not None and ticket in share.tickets

    def waiting(self) -> int:
        return sum(each.waiting() for each in self.classes.values())

    def tickets(self) -> Iterator[Ticket]:
        for each in self.classes.values():
            for share in each.shares.values():
                yield from share.tickets

    def position(self, ticket: Ticket) -> int:
        """How many go before `ticket`, which comes now, if each finds a place and nobody else comes."""
        copy = _Line({priority: _copied(each) for priority, each in self.classes.items()})
        copy.add(ticket)
        before = 0
        while (following := next(copy.in_turn())) is not ticket:
            copy.take(following)
            before += 1
        return before

    def last_of_the_most(self, ticket: Ticket) -> Ticket | None:
        """Who must make room for `ticket`: the last of who has the most of the smallest priority; nobody, if
        that would be no fairer."""
        lowest = min(priority for priority, each in self.classes.items() if each.waiting())
        shares = self.classes[lowest].shares
        most = max(shares.values(), key=lambda share: len(share.tickets))
        own = shares.get(ticket.tenant)
        is_fairer = lowest == ticket.priority and len(most.tickets) > (len(own.tickets) if own else 0) + 1
        return most.tickets[-1] if lowest < ticket.priority or is_fairer else None

    def _forget(self, priority: int) -> None:
        # Debts are about who waits: where nobody of this class does, nobody was wronged.
        if not self.classes[priority].waiting():
            del self.classes[priority]


def _copied(each: _Class) -> _Class:
    shares = {tenant: _Share(share.balance, list(share.tickets)) for tenant, share in each.shares.items()}
    return _Class(shares, each.passed_over)


class WaitingRoom:
    """Who waits for which model, and in which order they go."""

    def __init__(self) -> None:
        self._lines: dict[ModelName, _Line] = {}
        self._numbers = 0

    def enter(
        self, model: ModelName, tenant: Tenant, priority: int, tokens: int, now: float
    ) -> Entered | Overflow:
        """A ticket for one more request, which costs about `tokens`."""
        self._numbers += 1
        ticket = Ticket(self._numbers, model, tenant, priority, max(1, tokens), now)
        line = self._line(model)
        evicted = None
        if line.waiting() >= WAITING_MAX:
            overflow = Overflow(line.pace.turn_away())
            last = line.last_of_the_most(ticket)
            if last is None:
                return overflow
            line.drop(last)
            evicted = Evicted(last, overflow)
        ticket = replace(ticket, position=line.position(ticket))
        line.add(ticket)
        return Entered(ticket, evicted)

    def in_turn(self, model: ModelName) -> Iterator[Ticket]:
        """Who goes next; then who does if that one finds no place, and so on. Changes nothing."""
        line = self._lines.get(model)
        return line.in_turn() if line else iter(())

    def admit(self, ticket: Ticket) -> None:
        """`ticket` has found a place. It pays, and is in the room no more."""
        line = self._lines[ticket.model]
        line.take(ticket)
        line.pace.begin()

    def bring_back(self, ticket: Ticket) -> None:
        """`ticket` was admitted, and had no place after all: it waits where it did before.

        The room may then hold more than `WAITING_MAX`: by as many as have a place now.
        """
        line = self._line(ticket.model)
        line.pace.abandon()
        line.bring_back(ticket)

    def leave(self, ticket: Ticket) -> None:
        """`ticket` waits no more, or had no use of its place: it has cost nothing."""
        line = self._lines[ticket.model]
        if not line.has(ticket):
            self.bring_back(ticket)
        line.drop(ticket)
        self._tidy()

    def release(self, ticket: Ticket, held_for: float, tokens: int | None = None) -> None:
        """What `ticket` was admitted to is over: its slot was held for `held_for` seconds.

        `tokens`: that it cost; None: not known.
        """
        line = self._lines[ticket.model]
        line.pace.end(held_for)
        if tokens is not None:
            line.correct(ticket, tokens)
        self._tidy()

    def until_admitted_again(self, ticket: Ticket) -> float | None:
        """Seconds that `ticket`, if it left and came again, would wait, as things go; None: not known."""
        line = self._lines[ticket.model]
        return line.pace.until_free(line.waiting())

    def report(self, now: float) -> Mapping[ModelName, Waiting]:
        """The line of each model that somebody waits for."""
        return {
            model: Waiting(
                waiting=line.waiting(),
                oldest=now - min(ticket.arrived_at for ticket in line.tickets()),
                estimate=line.pace.until_free(line.waiting() + 1),
            )
            for model, line in sorted(self._lines.items())
            if line.classes
        }

    def waiting(self, model: ModelName) -> int:
        """How many wait for `model`."""
        line = self._lines.get(model)
        return line.waiting() if line else 0

    def _line(self, model: ModelName) -> _Line:
        # Moved to the end, so that those which nobody asks for come first.
        line = self._lines.pop(model, None)
        if line is None:
            line = _Line()
        self._lines[model] = line
        return line

    def _tidy(self) -> None:
        """Forget lines that nobody uses; those of names that were made up, which have no pace, at once."""
        unused = [model for model, line in self._lines.items() if not line.classes and not line.pace.held]
        excess = len(self._lines) - _MODELS_MAX
        for number, model in enumerate(unused):
            if number < excess or not self._lines[model].pace.is_known:
                del self._lines[model]
