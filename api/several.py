"""Several prompts of one completions request, as one answer.

Each prompt is a request of its own and may be served by another peer. All are asked at once;
one that finds every slot taken waits until another one ends, so a list may be longer than the
swarm has slots. Only a list of which nothing gets a slot is refused.

    prompt 0, choices 0..n-1  ->  choices 0..n-1
    prompt 1, choices 0..n-1  ->  choices n..2n-1        and so on

The first to fail ends all, because half of an answer is none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import trio

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    Infers,
    Progress,
    Resumed,
    Timings,
    Usage,
)
from federation.errors import Busy, DeadlineExceeded, FederationError, Misbehaved

_RETRY_AFTER = 1.0
"""Seconds until another try where none of ours runs any more, and others took the slots it had."""

_News: TypeAlias = tuple[int, Answer | AnswerEvent | FederationError]
"""Of the request with that number."""


@asynccontextmanager
async def infer_several(backend: Infers, requests: Sequence[InferenceRequest]) -> AsyncIterator[Answer]:
    """Have `backend` serve all of `requests`, which differ in their prompts; see `Infers`.

    Entering returns when the first of them was accepted, and the answer names who serves that one.
    Leaving early cancels all.
    """
    failure: FederationError | None = None
    news, reports = trio.open_memory_channel[_News](0)
    batch = _Batch(backend, news)
    async with reports, trio.open_nursery() as nursery:
        for number, request in enumerate(requests):
            nursery.start_soon(batch.serve, number, request)
        try:
            first = await _first_accepted(reports)
            events = _together(reports, len(requests), requests[0].choices)
            async with aclosing(events):
                yield replace(first, events=events)
        except FederationError as error:
            failure = error  # Carried out by hand: the nursery would wrap it in a group.
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@dataclass(slots=True)
class _Batch:
    """The requests of one list, as far as they have come."""

    backend: Infers
    news: trio.MemorySendChannel[_News]
    started_at: float = field(default_factory=trio.current_time)
    _has_begun: bool = False
    """One of them was accepted."""
    _working: int = 0
    """Requests that are served, or about to be."""
    _ended: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def serve(self, number: int, request: InferenceRequest) -> None:
        """Report all that comes of one request, its end when its slot is free again."""
        try:
            while (done := await self._attempt(number, request)) is None:
                if self._working:
                    await self._ended.park()
                else:
                    await trio.sleep(_RETRY_AFTER)
        except FederationError as error:
            await self.news.send((number, error))
        else:
            await self.news.send((number, done))

    async def _attempt(self, number: int, request: InferenceRequest) -> Done | None:
        """The end of the answer, or None if it must wait for a slot."""
        left = request.timeout - (trio.current_time() - self.started_at)
        if left <= 0:
            raise DeadlineExceeded("the request's time is over")
        done: Done | None = None
        self._working += 1
        try:
            async with self.backend.infer(replace(request, timeout=left)) as answer:
                self._has_begun = True
                await self.news.send((number, answer))
                async for event in answer.events:
                    if isinstance(event, Done):
                        done = event
                    else:
                        await self.news.send((number, event))
        except Busy:
            if self._working == 1 and not self._has_begun:
                raise
            return None
        finally:
            self._working -= 1
        self._ended.unpark()
        if done is None:
            raise Misbehaved("the answer stopped before its end")
        return done


async def _first_accepted(reports: trio.MemoryReceiveChannel[_News]) -> Answer:
    _, said = await reports.receive()
    if isinstance(said, FederationError):
        raise said
    assert isinstance(said, Answer), "an answer begins with its acceptance"
    return said


async def _together(
    reports: trio.MemoryReceiveChannel[_News], count: int, choices: int
) -> AsyncGenerator[AnswerEvent]:
    """The events of all `count` answers of `choices` each, as of one."""
    ends: dict[int, Done] = {}
    while len(ends) < count:
        number, said = await reports.receive()
        match said:
            case FederationError():
                raise said
            case Chunk() if said.choice < choices:
                yield replace(said, choice=number * choices + said.choice)
            case Done() if len(said.finish_reasons) == choices:
                ends[number] = said
            case Chunk() | Done():
                raise Misbehaved("the answer has other choices than were asked for")
            case Progress() | Resumed():
                yield said
    yield _end_of_all([ends[number] for number in range(count)])


def _end_of_all(ends: Sequence[Done]) -> Done:
    """Tokens add up; times do not, because the requests ran side by side."""
    return Done(
        finish_reasons=tuple(reason for end in ends for reason in end.finish_reasons),
        usage=Usage(
            prompt_tokens=sum(end.usage.prompt_tokens for end in ends),
            completion_tokens=sum(end.usage.completion_tokens for end in ends),
            cached_tokens=sum(end.usage.cached_tokens for end in ends),
        ),
        timings=Timings(
            queue=max(end.timings.queue for end in ends),
            prefill=max(end.timings.prefill for end in ends),
            decode=max(end.timings.decode for end in ends),
        ),
    )
