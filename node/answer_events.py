"""Answer events: what an engine generates, as the worker passes it on."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

import trio

from federation.backend import AnswerEvent, Chunk, Done, InferenceRequest
from federation.errors import BadRequest, DeadlineExceeded, Failed
from node.answer_reader import AnswerReader
from node.engine.errors import EngineFailed, PromptRefused
from node.engine_request import field_to_blame
from node.speeds import Speeds


class AnswerEvents:
    """What an engine generates, as long as somebody wants it. Its end tells how fast that was."""

    def __init__(
        self,
        request: InferenceRequest,
        events: AsyncIterator[AnswerEvent],
        deadline: float,
        speeds: Speeds,
        reader: AnswerReader,
    ) -> None:
        self._request = request
        self._events = events
        self._deadline = deadline
        self._speeds = speeds
        self._reader = reader
        self._read: deque[AnswerEvent] = deque()
        """What comes next; more than one at the end only."""
        self._has_begun = False
        self._waited = 0.0
        """Seconds our reader spent waiting here since the first token."""

    def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        return self

    async def __anext__(self) -> AnswerEvent:
        if not self._read:
            self._read.extend(self._reader.read(await self._next()))
        return self._read.popleft()

    async def _next(self) -> AnswerEvent:
        asked_at = trio.current_time()
        try:
            with trio.fail_at(self._deadline):
                event = await anext(self._events)
        except trio.TooSlowError as error:
            raise DeadlineExceeded("the request's time is over") from error
        except PromptRefused as error:
            # Found out on the way, and so it would be anywhere: a grammar that grows too complex.
            raise BadRequest(str(error), param=field_to_blame(self._request, error.param)) from error
        except EngineFailed as error:
            raise Failed(str(error)) from error
        if self._has_begun:
            self._waited += trio.current_time() - asked_at
        match event:
            case Chunk():
                self._has_begun = True
            case Done():
                self._speeds.answered(event, self._waited)
        return event
