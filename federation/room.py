"""The waiting room carried out: who finds no place waits until there is news, and nobody polls.

    async with room.visit(claim) as visit:      # Busy: there is no room
        place = await visit.place(choose)       # `choose` has taken the lease
        ...
        visit.come_back()                       # there was none after all: wait on, where it stood before

`choose` is called when it is a request's turn, by whatever task brings the news: it chooses a
peer and leases its slot in one go. So a slot that frees goes to who waits, and to no newcomer
that asks in the moment between. Everybody comes through here, also who finds a place at once.

What one waits for that needs several slots at once is kept for it once it is overdue: nobody behind it
may take that, however often it is their turn meanwhile.

News is whatever may have made a place: the end of a visit, which says so itself; a peer's
load, an offer, a change of the view, which others say with `note_news`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar, cast

import trio

from federation.backend import Queued
from federation.errors import Busy, FederationError, TimedOut
from federation.waiting_line import Tenant, Ticket
from federation.waiting_room import WAITING_MAX, Overflow, Waiting, WaitingRoom
from ledger.records import ModelName

Place = TypeVar("Place")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request waits for, and for how long."""

    model: ModelName
    """By name alone."""
    tenant: Tenant
    priority: int
    tokens: int
    """That it is likely to cost."""
    deadline: float
    """By trio's clock; then it has waited in vain."""
    slots: int = 1
    """That it needs at once."""


@dataclass(frozen=True, slots=True)
class NoPlace:
    """There is none now."""

    patience: float = math.inf
    """Seconds that it is worth waiting for this to change."""
    verdict: FederationError | None = None
    """What to say when they are over; None: that no slot came free in time."""
    again_in: float = math.inf
    """Seconds after which there may be one although nobody brings news."""
    is_choosy: bool = False
    """There is one, and waiting for a better one takes less time: another one may like it."""
    waits_for: Hashable = None
    """What is kept for it once it is overdue; None: nothing."""


Choose: TypeAlias = Callable[[], Place | NoPlace]
"""Takes a place if there is one. Raises a FederationError where waiting is of no use. Never awaits."""

_CHOOSY_MAX = 8
"""Of those who would rather wait than take what there is, so many are asked at once. What the next ones would
wait for is taken by them, so of more most are asked in vain, each for a look at all peers."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """One that waits for a place now."""

    choose: Choose[object]
    like: Hashable
    deadline: float
    outcome: object = None
    """Its place, or the error that it gets instead."""
    is_settled: trio.Event = field(default_factory=trio.Event)
    patience: trio.CancelScope = field(default_factory=trio.CancelScope)
    verdict: FederationError | None = None
    gives_up_at: float = math.inf
    hopeless_since: float | None = None

    def ask(self) -> object:
        """Its place, NoPlace, or the error that it gets instead."""
        try:
            return self.choose()
        except FederationError as error:
            return error

    def settle(self, outcome: object) -> None:
        self.outcome = outcome
        self.is_settled.set()

    def be_patient(self, no_place: NoPlace, now: float) -> None:
        """There is none yet: wait for as long as that is worth it, or until it is time to look again."""
        if math.isinf(no_place.patience):
            self.hopeless_since = None
        elif self.hopeless_since is None:
            self.hopeless_since = now
        since = now if self.hopeless_since is None else self.hopeless_since
        self.verdict = no_place.verdict
        self.gives_up_at = min(self.deadline, since + no_place.patience)
        deadline = min(self.gives_up_at, now + no_place.again_in)
        # Mostly what it was. All that wait are told so at any news, and trio takes its time to note it.
        if deadline != self.patience.deadline:
            self.patience.deadline = deadline

    async def wait(self) -> bool:
        """Until it is settled, or it is time to look again. Whether it makes sense to wait on."""
        with self.patience:
            await self.is_settled.wait()
        self.patience = trio.CancelScope(deadline=self.gives_up_at)
        return not self.is_settled.is_set() and trio.current_time() < self.gives_up_at


class Visit:
    """One request's stay in the room, and in the place it got."""

    def __init__(self, room: Room, ticket: Ticket, deadline: float) -> None:
        self.ticket = ticket
        self.tokens: int | None = None
        """That it has cost, once that is known."""
        self.admitted_at: float | None = None
        """None: it has no place."""
        self.ahead = 0
        """While it chooses: how many wait on whose turn it was before."""
        self.kept: frozenset[Hashable] = frozenset()
        """While it chooses: what is kept for those, and not to be taken."""
        self.waits_for: Hashable = None
        """What it is that it found no place at the last time."""
        self.is_served = False
        """It knows of its place: cancelled before that, it never had one."""
        self._room = room
        self._deadline = deadline

    @property
    def queued(self) -> Queued:
        """What it had to expect, now that it has a place."""
        has_waited = self.admitted_at != self.ticket.arrived_at
        return Queued(self.ticket.position, self.ticket.estimate if has_waited else 0.0)

    async def place(self, choose: Choose[Place], like: Hashable = None) -> Place:
        """What `choose` returns when it is this one's turn and there is a place.

        Of all with the same `like` one alone is asked in vain. Cancelled: what `choose` took is the caller's
        to give back, as if it had been returned.

        Raises:
          Busy: it had to make room for somebody with a better right to it.
          TimedOut: its deadline came first.
          FederationError: what `choose` raised, or said to say when patience was over.
        """
        waiter = _Waiter(choose, like, self._deadline)
        with self._room.turns(self, waiter):
            while not waiter.is_settled.is_set() and await waiter.wait():
                self._room.note_news(self.ticket.model)
        if not waiter.is_settled.is_set():
            raise waiter.verdict or self._room.timed_out(self.ticket)
        if isinstance(waiter.outcome, FederationError):
            raise waiter.outcome
        self.is_served = True
        return cast(Place, waiter.outcome)

    def come_back(self) -> None:
        """The place was none: wait for another, where this one stood before. Its lease was given back."""
        self._room.bring_back(self)


class Room:
    """Who waits, for all models."""

    def __init__(self, on_waiting: Callable[[ModelName], None] | None = None) -> None:
        """`on_waiting` hears whenever another number of slots is waited for. It must not raise."""
        self._core = WaitingRoom()
        self._visits: dict[Ticket, Visit] = {}
        self._waiters: dict[Ticket, _Waiter] = {}
        self._on_waiting = on_waiting
        self._told: dict[ModelName, int] = {}

    @asynccontextmanager
    async def visit(self, claim: Claim) -> AsyncIterator[Visit]:
        """Be in the room, and in the place that comes of it, until the block is left: however that is.

        Leave it after the lease was given back, because that is news for who waits.

        Raises:
          Busy: too many wait already.
        """
        now = trio.current_time()
        entered = self._core.enter(
            claim.model, claim.tenant, claim.priority, claim.tokens, now, slots=claim.slots
        )
        if isinstance(entered, Overflow):
            raise _overflown(claim.model, entered)
        if (evicted := entered.evicted) is not None:
            self._evict(evicted.ticket, _overflown(claim.model, evicted.overflow))
        visit = self._visits[entered.ticket] = Visit(self, entered.ticket, claim.deadline)
        try:
            yield visit
        finally:
            self._end(visit)

    def note_news(self, model: ModelName | None = None) -> None:
        """There may be a place for who waits for `model`; None: for any."""
        for each in [model] if model is not None else sorted({ticket.model for ticket in self._waiters}):
            no_places: dict[Hashable, NoPlace] = {}
            while self._settle_one(each, no_places):
                pass
            self._tell(each)

    def wanted(self, model: ModelName) -> int:
        """How many slots of `model` those who wait want."""
        return self._core.wanted(model)

    def report(self) -> Mapping[ModelName, Waiting]:
        """The line of each model that somebody waits for."""
        return self._core.report(trio.current_time())

    @contextmanager
    def turns(self, visit: Visit, waiter: _Waiter) -> Iterator[None]:
        """Let `waiter` have its turn for as long as this is held."""
        if visit.ticket not in self._visits:
            waiter.settle(_overflown(visit.ticket.model, Overflow(None)))
        else:
            self._waiters[visit.ticket] = waiter
        try:
            self.note_news(visit.ticket.model)
            yield
        finally:
            self._waiters.pop(visit.ticket, None)

    def bring_back(self, visit: Visit) -> None:
        """It waits again."""
        visit.admitted_at, visit.is_served = None, False
        self._core.bring_back(visit.ticket)
        # Without it, which asks for nothing yet: somebody else may like what it could not use.
        self.note_news(visit.ticket.model)

    def timed_out(self, ticket: Ticket) -> TimedOut:
        """What to say to one that has waited in vain."""
        now = trio.current_time()
        waited, retry_after = now - ticket.arrived_at, self._core.until_admitted_again(ticket, now)
        return TimedOut(f"no slot for {ticket.model} came free in {waited:.0f} s", retry_after=retry_after)

    def _settle_one(self, model: ModelName, no_places: dict[Hashable, NoPlace]) -> bool:
        """Whether somebody waits no more, in which case it may be anybody's turn."""
        now = trio.current_time()
        ahead = 0
        kept: set[Hashable] = set()
        for ticket in self._core.in_turn(model):
            waiter, visit = self._waiters.get(ticket), self._visits[ticket]
            if waiter is not None:
                visit.ahead, visit.kept = ahead, frozenset(kept)
                outcome = no_places.get(waiter.like) or waiter.ask()
                if not isinstance(outcome, NoPlace):
                    break
                ahead += 1
                if not outcome.is_choosy or ahead >= _CHOOSY_MAX:
                    no_places[waiter.like] = outcome
                waiter.be_patient(outcome, now)
                visit.waits_for = outcome.waits_for
            # Also where it was brought back and does not ask yet.
            if visit.waits_for is not None and self._core.is_overdue(ticket):
                kept.add(visit.waits_for)
        else:
            return False
        if not isinstance(outcome, FederationError):
            self._core.admit(ticket, now)
            visit.admitted_at = now
        del self._waiters[ticket]
        waiter.settle(outcome)
        return True

    def _evict(self, ticket: Ticket, error: Busy) -> None:
        del self._visits[ticket]
        # One that was brought back and asks for nothing yet is not told: it meets its own end in `place`.
        if (waiter := self._waiters.pop(ticket, None)) is not None:
            waiter.settle(error)

    def _end(self, visit: Visit) -> None:
        ticket = visit.ticket
        if self._visits.pop(ticket, None) is not None:
            if visit.admitted_at is not None and visit.is_served:
                self._core.release(ticket, trio.current_time(), visit.tokens)
            else:
                self._core.leave(ticket)
        self.note_news(ticket.model)

    def _tell(self, model: ModelName) -> None:
        wanted = self._core.wanted(model)
        if self._on_waiting is not None and wanted != self._told.get(model, 0):
            self._told[model] = wanted
            self._on_waiting(model)
        if not wanted:
            self._told.pop(model, None)


def _overflown(model: ModelName, overflow: Overflow) -> Busy:
    return Busy(
        f"every slot for {model} is taken, and {WAITING_MAX} requests wait for one",
        retry_after=overflow.retry_after,
    )
