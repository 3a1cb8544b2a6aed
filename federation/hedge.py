"""Hedge: one more peer is asked where the first content of a stream is late, and the faster one stays.

    source a ----------------- late --------------------> left
                                 +--> source b --> content -----> relay

Both run until one of them says something; the other one is left, which frees its slot. Nothing was
delivered until then. Costs a task and a scope before the first content, and nothing after it. When
somebody is late, and how often somebody may be asked twice, `first_words.py` decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import trio

from federation.attempts import Attempts
from federation.backend import AnswerEvent, Chunk, Done, Progress
from federation.balancer import Candidate
from federation.errors import Failed, FederationError
from federation.first_words import FirstWords
from federation.outcomes import Outcomes
from federation.source import Source

OpenSource: TypeAlias = Callable[[Attempts], Awaitable[Source]]
"""Has somebody serve a request; as `SwarmSources.open`."""

_FIRST_WORDS_MIN = 0.5
"""Seconds. What is quicker than that takes its time for other things than the prompt, and is not to be told
apart by it."""
_HELD_MAX = 64
"""Events without content that are read before an answer counts as begun: as many as a relay holds back."""


class Hedge:
    """Opens streams for a front."""

    def __init__(self, share: float, outcomes: Outcomes) -> None:
        """`share`: of extra work, 0 to 1. `outcomes` hears of those who failed while another one was asked,
        of whom nobody else hears."""
        self._first_words = FirstWords(share)
        self._outcomes = outcomes

    async def open(self, attempts: Attempts, open_source: OpenSource) -> Source:
        """Have somebody serve `attempts.request`, and read to the first content. Cancelled: nobody does.

        Raises: as `open_source`; what goes wrong later the events of the source raise.
        """
        if not attempts.request.is_streamed or attempts.is_onward:
            return await open_source(attempts)
        self._first_words.asked()
        first = _Runner(await open_source(attempts))
        race = _Race(self, attempts, open_source, [first])
        try:
            race.winner = await race.run()
        finally:
            await race.leave_losers()
        return race.winner.carried_on()

    def late_after(self, candidate: Candidate) -> float | None:
        """Seconds after which its first content is late; None: nobody can tell."""
        return self._first_words.late_after(candidate.peer, _expected(candidate))

    def spend(self, candidate: Candidate) -> bool:
        """Whether one more may be asked since `candidate` is late."""
        if not self._first_words.spend():
            return False
        self._outcomes.counts.hedges[candidate.peer] += 1
        return True

    def took(self, candidate: Candidate, seconds: float) -> None:
        """So long its first content took, at least."""
        self._first_words.came(candidate.peer, _expected(candidate), seconds)

    def failed(self, source: Source, error: Failed) -> None:
        """It failed beside another one."""
        self._outcomes.failed(source.candidate, source.lease, error)


def _expected(candidate: Candidate) -> float:
    """Seconds until its first content, more than 0."""
    return max(candidate.cost.first_token, _FIRST_WORDS_MIN)


@dataclass(slots=True)
class _Runner:
    """One source, as far as it has come."""

    source: Source
    began_at: float = field(default_factory=trio.current_time)
    read: deque[AnswerEvent] = field(default_factory=deque)
    failure: FederationError | None = None

    async def run(self) -> None:
        """Read until there is content, an end or a failure. Cancelled: its source can only be left."""
        try:
            while not self.has_begun:
                event = await anext(self.source.answer.events)
                if isinstance(event, Progress):
                    # The relay will not hear of it, and must not take this for silence.
                    self.source.lease.heard_at = trio.current_time()
                else:
                    self.read.append(event)
        except StopAsyncIteration:
            self.failure = Failed("the answer ended before it began")
        except FederationError as error:
            self.failure = error

    @property
    def has_begun(self) -> bool:
        """It has said something that its client would see, or all of it."""
        last = self.read[-1] if self.read else None
        if isinstance(last, Chunk):
            return bool(last.text or last.reasoning or last.tool_calls) or len(self.read) >= _HELD_MAX
        return isinstance(last, Done)

    def carried_on(self) -> Source:
        """The source, from its beginning."""
        events = _FromBeginning(self.read, self.failure, self.source.answer.events)
        return replace(self.source, answer=replace(self.source.answer, events=events))


@dataclass(slots=True)
class _Race:
    """Who asks first, and whoever is asked besides."""

    hedge: Hedge
    attempts: Attempts
    open_source: OpenSource
    runners: list[_Runner]
    winner: _Runner | None = None

    async def run(self) -> _Runner:
        """The first one to begin; where all have failed, the first one that was asked."""
        [first] = self.runners
        late_after = self.hedge.late_after(first.source.candidate)
        if late_after is None:
            await first.run()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_besides, first, late_after, nursery.cancel_scope)
                await first.run()
                if first.has_begun or len(self.runners) == 1:
                    nursery.cancel_scope.cancel()
        return next((each for each in self.runners if each.has_begun), first)

    async def _ask_besides(self, first: _Runner, late_after: float, both: trio.CancelScope) -> None:
        await trio.sleep(late_after)
        if not self.hedge.spend(first.source.candidate):
            return
        request, spared = self.attempts.request, frozenset({first.source.candidate.peer})
        try:
            # Only where there is a slot now: who waits for one has a better right to it.
            now = trio.current_time()
            source = await self.open_source(Attempts(request, self.attempts.deadline, now, spared=spared))
        except FederationError:
            return  # Nobody else can: the first one has all the time there is.
        second = _Runner(source)
        self.runners.append(second)
        await second.run()
        if second.has_begun:
            both.cancel()

    async def leave_losers(self) -> None:
        """Cancel what runs on those that did not win."""
        async with AsyncExitStack() as losers:
            for runner in self.runners:
                candidate = runner.source.candidate
                if runner is not self.winner:
                    losers.push_async_callback(runner.source.held.aclose)
                    if isinstance(runner.failure, Failed):
                        self.hedge.failed(runner.source, runner.failure)
                if runner.has_begun or (self.winner is not None and runner.failure is None):
                    self.hedge.took(candidate, trio.current_time() - runner.began_at)


@dataclass(slots=True)
class _FromBeginning:
    """What was read, and then the rest."""

    read: deque[AnswerEvent]
    failure: FederationError | None
    rest: AsyncIterator[AnswerEvent]

    def __aiter__(self) -> _FromBeginning:
        return self

    async def __anext__(self) -> AnswerEvent:
        if self.read:
            return self.read.popleft()
        if self.failure is not None:
            raise self.failure
        return await anext(self.rest)
