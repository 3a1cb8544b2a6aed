"""Answer events: what an engine generates, as the worker passes it on, and until when."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import trio

from federation.backend import AnswerEvent, Chunk, Done, InferenceRequest
from federation.errors import BadRequest, DeadlineExceeded, Failed
from node.answer_reader import AnswerReader
from node.engine.errors import EngineFailed, PromptRefused
from node.engine.generation import Generation
from node.engine_request import field_to_blame
from node.speeds import Speeds


async def answer_events(
    request: InferenceRequest, events: AsyncIterator[AnswerEvent], speeds: Speeds, reader: AnswerReader
) -> AsyncGenerator[AnswerEvent]:
    """What an engine generates, as long as somebody wants it. Its end tells how fast that was.

    Raises:
      BadRequest, Failed: as `Answer.events` promises.
    """
    resume = request.resume
    delivered = sum(len(choice.token_ids) for choice in resume.choices) if resume else 0
    has_begun = False
    waited = 0.0
    """Seconds our reader spent waiting here since the first token."""
    asked_at = trio.current_time()
    try:
        async for event in events:
            if has_begun:
                waited += trio.current_time() - asked_at
            match event:
                case Chunk():
                    has_begun = True
                case Done():
                    speeds.answered(event, waited, delivered=delivered)
            for read in reader.read(event):
                yield read
            asked_at = trio.current_time()
    except PromptRefused as error:
        # Found out on the way, and so it would be anywhere: a grammar that grows too complex.
        raise BadRequest(str(error), param=field_to_blame(request, error.param)) from error
    except EngineFailed as error:
        raise Failed(str(error)) from error


@contextmanager
def given_up_at(deadline: float, generation: Generation, nursery: trio.Nursery) -> Iterator[None]:
    """Give `generation` up then, by a task in `nursery`.

    A scope around each event costs as much as the event, and one around all of them would cancel what
    their reader does besides.
    """
    waiting = trio.CancelScope()
    nursery.start_soon(_give_up_at, deadline, generation, waiting)
    try:
        yield
    finally:
        waiting.cancel()


async def _give_up_at(deadline: float, generation: Generation, waiting: trio.CancelScope) -> None:
    with waiting:
        await trio.sleep_until(deadline)
        generation.give_up(DeadlineExceeded("the request's time is over"))
