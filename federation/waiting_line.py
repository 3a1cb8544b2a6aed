"""A line: those that wait for one model, in the order of their turns.

A larger priority goes first; within one priority the tenants take turns, a request each, and whoever
has spent more tokens than it was given sits its turns out:

    deficit round robin   M. Shreedhar, G. Varghese: Efficient Fair Queueing Using Deficit Round Robin, 1995
    with debts            a request goes once its tenant's balance is above 0, and is paid for afterwards, as
                          in fq_codel (RFC 8290): nobody saves up for a long prompt while a slot is free

So who comes new waits for one request of each other tenant at most, however many those sent
before; and of tenants that always wait each gets the same number of tokens. Within a tenant it
is first come, first served.

One that finds no place does not block those behind it. So where each slot that frees goes to the next
single request, one that needs several at once would find none for ever: the first such of each tenant
is overdue after some were let past it, goes before all others, and has slots kept for it (`room.py`).
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import NewType

from federation.waiting_pace import Pace
from ledger.records import ModelName

QUANTUM = 512
"""Tokens that each tenant is given per round: a short answer. Nobody gets further ahead of another than this
and one request."""

PASSED_OVER_MAX = 8
"""Guess: requests of larger priority that may go before one of a smaller one, and requests that need fewer
slots before one that needs several at once. So even where there are always some, one slot in nine goes to the
rest, and nothing starves."""

_IDLE_MAX = 256
"""Tenants in debt that are remembered while they wait for nothing: as many as there may be requests."""

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
    slots: int = 1
    """That it needs at once."""
    position: int = 0
    """How many would have been admitted before it when it came."""
    estimate: float | None = None
    """Seconds that it was to wait then, as things went; None: not known."""


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
        excess = len(idle) - _IDLE_MAX
        for number, tenant in enumerate(idle):
            if number < excess or self.shares[tenant].balance >= QUANTUM:
                del self.shares[tenant]


@dataclass(slots=True)
class Line:
    """Those that wait for one model, by priority, and how fast they go."""

    classes: dict[int, _Class] = field(default_factory=dict)
    """Those of which somebody waits."""
    pace: Pace = field(default_factory=Pace)
    _passed_over: Counter[Ticket] = field(default_factory=Counter)
    """Requests that needed fewer slots and went, while it was the turn of one that needs several at once.
    Known still while it has a place, which may turn out to be none."""

    def in_turn(self) -> Iterator[Ticket]:
        """Who goes next, then who does if that one finds no place, and so on."""
        overdue = [ticket for ticket in self._first_of_several() if self.is_overdue(ticket)]
        yield from overdue
        for priority in self._priorities():
            yield from (ticket for ticket in self.classes[priority].in_turn() if ticket not in overdue)

    def is_overdue(self, ticket: Ticket) -> bool:
        """Whether so many were let past it that slots are to be kept for it."""
        return self._passed_over[ticket] >= PASSED_OVER_MAX

    def _priorities(self) -> list[int]:
        """The largest first, but for those that were passed over too often."""
        return sorted(
            self.classes,
            key=lambda priority: (
                -max(0, self.classes[priority].passed_over - PASSED_OVER_MAX + 1),
                -priority,
            ),
        )

    def _first_of_several(self) -> Iterator[Ticket]:
        """Of each tenant in each class the first that needs several slots: who sends many of those is not to
        have slots kept for all of them."""
        for priority in self._priorities():
            for share in self.classes[priority].shares.values():
                yield from islice((ticket for ticket in share.tickets if ticket.slots > 1), 1)

    def _let_past(self, ticket: Ticket) -> None:
        """`ticket` goes, before those whose turn it was."""
        several = set(self._first_of_several())
        for passed in takewhile(lambda each: each != ticket, self.in_turn() if several else ()):
            if passed in several and passed.slots > ticket.slots:
                self._passed_over[passed] += 1

    def add(self, ticket: Ticket) -> None:
        """It waits."""
        shares = self.classes.setdefault(ticket.priority, _Class()).shares
        shares.setdefault(ticket.tenant, _Share()).tickets.append(ticket)

    def take(self, ticket: Ticket) -> None:
        """It has a place, and pays."""
        self._let_past(ticket)
        own = self.classes[ticket.priority]
        own.take(ticket)
        own.passed_over = 0
        for priority, each in self.classes.items():
            if priority < ticket.priority:
                each.passed_over += 1
        self._forget(ticket.priority)

    def bring_back(self, ticket: Ticket) -> None:
        """Undo `take`."""
        self.classes.setdefault(ticket.priority, _Class()).bring_back(ticket)

    def drop(self, ticket: Ticket) -> None:
        """It waits no more, and has no place."""
        self.classes[ticket.priority].drop(ticket)
        self._forget(ticket.priority)
        self.forget(ticket)

    def forget(self, ticket: Ticket) -> None:
        """It does not come back."""
        self._passed_over.pop(ticket, None)

    def correct(self, ticket: Ticket, tokens: int) -> None:
        """`ticket` has paid for another number of tokens than it took."""
        own = self.classes.get(ticket.priority)
        if own and (share := own.shares.get(ticket.tenant)):
            share.give(ticket.tokens - tokens)

    def has(self, ticket: Ticket) -> bool:
        """Whether it waits."""
        own = self.classes.get(ticket.priority)
        share = own.shares.get(ticket.tenant) if own else None
        return share is not None and ticket in share.tickets

    def waiting(self) -> int:
        """How many wait."""
        return sum(each.waiting() for each in self.classes.values())

    def tickets(self) -> Iterator[Ticket]:
        """All that wait, in no order."""
        for each in self.classes.values():
            for share in each.shares.values():
                yield from share.tickets

    def position(self, ticket: Ticket) -> int:
        """How many go before `ticket`, which comes now, if each finds a place and nobody else comes."""
        copy = Line({priority: _copied(each) for priority, each in self.classes.items()})
        copy._passed_over = Counter(self._passed_over)
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
