"""Several prompts of one completions request, as one answer.

Each prompt is a request of its own and may be served by another peer. All are asked at once, and wait
for slots where all requests do, so a list may be longer than the swarm has slots.

    prompt 0, choices 0..n-1  ->  choices 0..n-1
    prompt 1, choices 0..n-1  ->  choices n..2n-1        and so on

The first to fail ends all, because half of an answer is none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
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
from federation.errors import FederationError, Misbehaved

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
    async with reports, trio.open_nursery() as nursery:
        for number, request in enumerate(requests):
            nursery.start_soon(_serve, backend, number, request, news)
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


async def _serve(
    backend: Infers, number: int, request: InferenceRequest, news: trio.MemorySendChannel[_News]
) -> None:
    """Report all that comes of one request, its end when its slot is free again."""
    end: Done | FederationError = Misbehaved("the answer stopped before its end")
    try:
        async with backend.infer(request) as answer:
            await news.send((number, answer))
            async for event in answer.events:
                if isinstance(event, Done):
                    end = event
                else:
                    await news.send((number, event))
    except FederationError as error:
        end = error
    await news.send((number, end))


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
