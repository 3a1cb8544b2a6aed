"""An answer of a backend as an HTTP response: one JSON body, or a stream of events.

The backend works only as long as the client is there. A client that hangs up, while
it waits or in the middle of the answer, streamed or not, ends the backend's `with`
block, and that frees the slot wherever it is.

Of a stream the head is sent with the first token, so that everything that can go wrong before it
has a status of its own. Only a backend that reports progress for long starts the stream
earlier, because clients and proxies give up on a silent connection. The end is sent when
the slot is free again: a client that does not read it holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

import trio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api import sse
from api.collected import CollectedAnswer
from api.metrics import Metrics
from api.shapes import AnswerShape, StreamShape
from federation.backend import Answer, AnswerEvent, Chunk, Done, Progress
from federation.errors import FederationError, Misbehaved
from ledger.records import ModelName

_SILENCE_MAX = 10.0
"""Seconds without a byte until a comment is sent; the shortest read timeouts in the wild are 30."""


OpenAnswer: TypeAlias = Callable[[], AbstractAsyncContextManager[Answer]]
"""Has somebody serve the request; as `Infers.infer`."""


@dataclass(slots=True)
class _Result:
    """What is left to do of an answer, once its slot is free."""

    end: list[Message] = field(default_factory=list)
    failure: FederationError | None = None


class InferenceResponse(Response):
    """Opens an answer when it is called, and cancels it when the client hangs up.

    Raises what the backend raises; `Boundary` words it.
    """

    def __init__(
        self, open_answer: OpenAnswer, model: ModelName, shape: AnswerShape, metrics: Metrics
    ) -> None:
        self.background = None
        """FastAPI looks at this; nothing runs after an answer."""
        self._open_answer = open_answer
        self._model = model
        self._shape = shape
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        result = _Result()
        async with trio.open_nursery() as nursery:
            # In a task of its own: whenever an event wakes it, a task passes through all its callers, and of
            # those this one has two dozen.
            nursery.start_soon(self._answer, send, result, nursery.cancel_scope)
            await _hang_up(receive)
            nursery.cancel_scope.cancel()
        if result.failure is not None:
            raise result.failure
        # Only now: to hypercorn the end of an answer is a disconnect as well, and if we were cancelled for it
        # within this call, the connection would never count as idle, and outlast any timeout.
        for message in result.end:
            await send(message)

    async def _answer(self, send: Send, result: _Result, waiting: trio.CancelScope) -> None:
        """Deliver all but the end, which goes into `result`."""
        asked_at = trio.current_time()
        try:
            async with self._open_answer() as answer:
                result.end = await self._deliver(answer, asked_at, send)
            if not result.end:
                raise Misbehaved("the answer stopped before its end")
        except FederationError as error:
            result.failure = error  # Carried out by hand: the nursery would wrap it in a group.
        waiting.cancel()

    async def _deliver(self, answer: Answer, asked_at: float, send: Send) -> list[Message]:
        """Send nothing until the slot is free: all is returned. Nothing: the answer has no end."""
        end: list[Message] = []
        collected = CollectedAnswer()
        async for event in answer.events:
            match event:
                case Chunk():
                    collected.add(event)
                case Done():
                    self._metrics.finished(self._model, event.usage)
                    body = await _joined(self._shape.whole(collected, event))
                    headers = [
                        (b"content-type", b"application/json"),
                        (b"content-length", b"%d" % len(body)),
                        *_routing_headers(answer, asdict(event.timings)),
                    ]
                    end = [_head(headers), _body(body, is_last=True)]
        return end


class StreamResponse(InferenceResponse):
    """The same, piece by piece as it comes."""

    def __init__(
        self, open_answer: OpenAnswer, model: ModelName, shape: StreamShape, metrics: Metrics
    ) -> None:
        super().__init__(open_answer, model, shape, metrics)
        self._stream_shape = shape

    async def _deliver(self, answer: Answer, asked_at: float, send: Send) -> list[Message]:
        """Send all but the end, which is returned: it goes out when the slot is free."""
        end: list[Message] = []
        has_text = is_started = False
        last_sent_at = trio.current_time()
        async for event in answer.events:
            now = trio.current_time()
            if not has_text and isinstance(event, Chunk):
                has_text = True
                self._metrics.first_token(self._model, now - asked_at)
            body = self._words(event, silence=now - last_sent_at)
            if not body:
                continue
            if not is_started:
                is_started = True
                await send(_head([*sse.HEADERS, *_routing_headers(answer, {"wait": now - asked_at})]))
                body = self._stream_shape.opening() + body
            if isinstance(event, Done):
                self._metrics.finished(self._model, event.usage)
                end = [_body(body, is_last=True)]
            else:
                await send(_body(body, is_last=False))
            last_sent_at = now
        return end

    def _words(self, event: AnswerEvent, silence: float) -> bytes:
        """What a stream says of `event`, after `silence` seconds; nothing if it is not worth a write."""
        match event:
            case Chunk():
                return self._stream_shape.chunk(event)
            case Progress():
                is_due = silence >= _SILENCE_MAX
                return sse.comment(f"prefill {event.prefilled}/{event.total}") if is_due else b""
            case Done():
                return self._stream_shape.closing(event)


async def _joined(pieces: Iterable[str]) -> bytes:
    """All pieces. Two thousand vectors take seconds to word, in which others want to go on."""
    encoded = []
    for piece in pieces:
        encoded.append(piece.encode())
        await trio.lowlevel.checkpoint()
    return b"".join(encoded)


def _head(headers: Sequence[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(body: bytes, *, is_last: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}


async def _hang_up(receive: Receive) -> None:
    """Wait until the client does."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _routing_headers(answer: Answer, timing: Mapping[str, float]) -> list[tuple[bytes, bytes]]:
    """Who answered, after how many attempts, and what took how long (`timing` in seconds).

    Before a stream ends, only the wait for its first word, as seen from here, is known. A
    whole answer carries what the worker measured.
    """
    durations = ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in timing.items())
    return [
        (b"x-localai-peer", answer.served_by.encode()),
        (b"x-localai-attempts", b"%d" % answer.attempts),
        (b"server-timing", durations.encode()),
    ]
