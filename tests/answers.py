"""What every backend promises of its answers, whatever serves them."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from federation.backend import Answer, AnswerEvent, Done, InferenceRequest, Infers


async def last_event(answer: Answer) -> AnswerEvent:
    return [event async for event in answer.events][-1]


async def check_no_scope_stays_open(backend: Infers, request: InferenceRequest) -> None:
    """Answers to `request` can be left in any order, in the middle, and by others than who entered.

    The backend must serve two of them at once. A scope that was left open would make trio raise.
    """
    first, second, third = AsyncExitStack(), AsyncExitStack(), AsyncExitStack()
    left = await first.enter_async_context(backend.infer(request))
    await anext(left.events)
    read = await second.enter_async_context(backend.infer(request))
    await anext(read.events)
    await first.aclose()
    assert isinstance(await last_event(read), Done)

    entered: list[Answer] = []

    async def enter() -> None:
        entered.append(await third.enter_async_context(backend.infer(request)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(enter)
    await anext(entered[0].events)
    await second.aclose()
    assert isinstance(await last_event(entered[0]), Done)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(third.aclose)
