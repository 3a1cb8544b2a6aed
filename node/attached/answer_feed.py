"""What comes of an exchange, as who asked reads it: with a deadline, and signs of life.

A server says nothing while it reads a prompt or loads a model; llama-server alone can be asked how far it
is. So that a front does not take that for a hang, PROGRESS is made here, by the clock: it means that the
connection stands and that the server has answered our looks at it, and no more than that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from federation.backend import AnswerEvent, Chunk, Done, Progress
from federation.errors import DeadlineExceeded, Failed, FederationError
from node.attached.exchange import Said
from node.speeds import Speeds

ACCEPT_AFTER = 5.0
"""Seconds without a word after which a request counts as accepted. Servers send not even a status before they
have read the prompt, which may take minutes; what is wrong with a request they say before they begin to."""

PROGRESS_INTERVAL = 1.0
"""Seconds of silence after which a front wants to hear that we are still at it (`federation/infer.py`)."""


class AnswerFeed:
    """The events of one answer. `trouble` says why the server broke off, where it was cut off by us."""

    def __init__(
        self,
        said: trio.MemoryReceiveChannel[Said],
        deadline: float,
        speeds: Speeds,
        trouble: Callable[[], str],
    ) -> None:
        self._said = said
        self._deadline = deadline
        self._speeds = speeds
        self._trouble = trouble
        self._first: AnswerEvent | None = None
        self._progress = Progress(0, 0)
        self._has_begun = False
        self._is_over = False
        self._waited = 0.0
        """Seconds our reader spent waiting here since the first content."""

    async def begin(self) -> None:
        """Return once the request is accepted.

        Raises:
          FederationError: it is not; why the server refused it.
          DeadlineExceeded: its time was over before.
        """
        with trio.move_on_at(min(self._deadline, trio.current_time() + ACCEPT_AFTER)):
            said = await self._receive()
            if isinstance(said, FederationError):
                raise said
            self._first = said
            return
        if trio.current_time() >= self._deadline:
            raise DeadlineExceeded("the request's time was over before it was accepted")

    def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        return self

    async def __anext__(self) -> AnswerEvent:
        if self._is_over:
            raise StopAsyncIteration
        event = await self._next()
        match event:
            case Progress():
                self._progress = event
            case Chunk():
                self._has_begun = True
            case Done():
                self._is_over = True
                self._speeds.answered(event, self._waited)
        return event

    async def _next(self) -> AnswerEvent:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        asked_at = trio.current_time()
        said: Said = self._progress
        with trio.move_on_at(min(self._deadline, asked_at + PROGRESS_INTERVAL)):
            said = await self._receive()
        now = trio.current_time()
        if self._has_begun:
            self._waited += now - asked_at
        if now >= self._deadline:
            raise DeadlineExceeded("the request's time is over")
        if isinstance(said, FederationError):
            # A refusal that came late is a failure: the request counted as accepted.
            raise said if isinstance(said, Failed) else Failed(str(said))
        return said

    async def _receive(self) -> Said:
        try:
            return await self._said.receive()
        except trio.EndOfChannel:
            return Failed(self._trouble() or "the answer was cut off")
