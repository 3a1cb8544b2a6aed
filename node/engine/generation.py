"""One generation as its reader sees it: accepted, then events, then the end.

The buffer is bounded by credit: the child sends at most `UNREAD_TOKENS_MAX` tokens of each
choice that were not read, and pauses it. Reading grants more, half a buffer at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from federation.backend import AnswerEvent, Chunk, Done, Progress, Timings, Usage
from node.engine.errors import EngineFailed, PromptRefused
from node.engine.refusals import refused_with
from node.engine.wire import (
    UNREAD_TOKENS_MAX,
    Accepted,
    Finished,
    Piece,
    Prefilled,
    Refused,
)
from p2p.errors import BadFrame

_ENDS_MAX = 1
"""Pieces of a choice that cost no credit: its end, where that is no token."""
_OTHERS_MAX = 2
"""One progress, and Done."""


class Generation:
    """What comes out of one request. Iterate over `events` once.

    The iterator ends after `Done`. It raises EngineFailed if the engine ends before, and PromptRefused where
    it shows only on the way that the request cannot be served: its grammar grows too complex.
    """

    def __init__(self, choices: int, slots: int, grant: Callable[[int, int], None]) -> None:
        """It takes `slots`; `grant(choice, tokens)` lets the child send so many more."""
        self.slots = slots
        self.prompt_sha256 = b""
        self.prompt_tokens = 0
        self.resumed: tuple[str, ...] = ()
        """The text that was delivered of each choice before, where one is resumed."""
        self.has_ended = False
        """Nothing more will come: it is done, refused, or its engine is gone."""
        self._grant = grant
        self._taken = [0] * choices
        """Tokens of each choice read since credit was granted last."""
        self._accepted = trio.Event()
        self._failure: Exception | None = None
        self._incoming, self._events = trio.open_memory_channel[AnswerEvent](
            choices * (UNREAD_TOKENS_MAX + _ENDS_MAX) + _OTHERS_MAX
        )

    @property
    def events(self) -> AsyncIterator[AnswerEvent]:
        """Chunks as they are made, now and then Progress, at last Done."""
        return self

    def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        return self

    async def __anext__(self) -> AnswerEvent:
        try:
            event = await self._events.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            if self._failure is not None:
                raise self._failure from None
            raise StopAsyncIteration from None
        if isinstance(event, Chunk) and event.token_ids:
            self._taken[event.choice] += len(event.token_ids)
            if self._taken[event.choice] >= UNREAD_TOKENS_MAX // 2 and not self.has_ended:
                self._grant(event.choice, self._taken[event.choice])
                self._taken[event.choice] = 0
        return event

    async def wait_accepted(self) -> None:
        """Wait until the engine took the request.

        Raises:
          PromptRefused: it cannot be served.
          EngineFailed: the engine ended first.
        """
        await self._accepted.wait()
        if self._failure is not None:
            raise self._failure

    def on_message(self, message: Accepted | Refused | Prefilled | Piece | Finished) -> None:
        """Take in what the child says of this generation.

        Raises:
          BadFrame: it is more than was granted, or comes after the end.
        """
        try:
            self._take_in(message)
        except trio.BrokenResourceError:
            # It was given up, and whoever reads it is about to leave.
            pass
        except (trio.WouldBlock, trio.ClosedResourceError) as error:
            raise BadFrame(f"{type(message).__name__} that may not be said now") from error

    def _take_in(self, message: Accepted | Refused | Prefilled | Piece | Finished) -> None:
        match message:
            case Accepted():
                self.prompt_sha256 = message.prompt_sha256
                self.prompt_tokens = message.prompt_tokens
                self.resumed = message.resumed
                self._accepted.set()
            case Refused():
                self.fail(refused_with(message))
            case Prefilled():
                # Who has something to read needs no sign of life.
                if self._events.statistics().current_buffer_used == 0:
                    self._incoming.send_nowait(Progress(message.prefilled, message.total))
            case Piece():
                self._incoming.send_nowait(
                    Chunk(
                        message.choice,
                        message.token_ids,
                        message.text,
                        logprobs=message.logprobs,
                        vector=message.vector,
                        finish_reason=message.finish_reason,
                    )
                )
            case Finished():
                self._incoming.send_nowait(_done(message))
                self._end()

    def fail(self, error: EngineFailed | PromptRefused) -> None:
        """End with `error`, after what has arrived already."""
        if not self.has_ended:
            self._failure = error
            self._accepted.set()
            self._end()

    def give_up(self, error: Exception) -> None:
        """Whoever reads it leaves with `error`, whatever has arrived; or with the one it has failed with."""
        self._failure = self._failure or error
        self._events.close()

    def _end(self) -> None:
        self.has_ended = True
        self._incoming.close()

    def close(self) -> None:
        """The reader left."""
        self._end()
        self._events.close()


def _done(finished: Finished) -> Done:
    return Done(
        finish_reasons=finished.reasons,
        usage=Usage(finished.prompt_tokens, finished.completion_tokens, finished.cached_tokens),
        timings=Timings(finished.queue, finished.prefill, finished.decode),
    )
