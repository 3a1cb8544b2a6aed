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

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Protocol

import trio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api import sse
from api.metrics import Metrics
from federation.backend import Answer, AnswerEvent, Backend, Chunk, Done, InferenceRequest, Progress
from federation.errors import FederationError, Misbehaved

_SILENCE_MAX = 10.0
"""Seconds without a byte until a comment is sent; the shortest read timeouts in the wild are 30."""


class AnswerShape(Protocol):
    """How one endpoint words its answers."""

    def opening(self) -> bytes:
        """Events before the first token."""

    def chunk(self, chunk: Chunk) -> bytes:
        """The event of one piece of text."""

    def closing(self, done: Done) -> bytes:
        """Events after the last token."""

    def whole(self, texts: Sequence[str], done: Done) -> dict[str, Any]:
        """The body of an answer that is not streamed; one text per choice."""


class InferenceResponse(Response):
    """Runs `request` when it is called, and cancels it when the client hangs up.

    Raises what the backend raises; `Boundary` words it.
    """

    def __init__(
        self, backend: Backend, request: InferenceRequest, shape: AnswerShape, metrics: Metrics
    ) -> None:
        self.background = None
        """FastAPI looks at this; nothing runs after an answer."""
        self._backend = backend
        self._request = request
        self._shape = shape
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: FederationError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_hang_up, receive, nursery.cancel_scope)
            try:
                await self._answer(send)
            except FederationError as error:
                failure = error  # Carried out by hand: the nursery would wrap it in a group.
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _answer(self, send: Send) -> None:
        asked_at = trio.current_time()
        async with (
            self._backend.infer(self._request) as answer,
            aclosing(self._events(answer, asked_at)) as events,
        ):
            if self._request.is_streamed:
                end = await self._send_stream(answer, events, asked_at, send)
            else:
                end = await self._whole(answer, events)
        for message in end:
            await send(message)

    async def _events(self, answer: Answer, asked_at: float) -> AsyncGenerator[AnswerEvent]:
        """The events of `answer`, counted."""
        is_first = True
        is_done = False
        async for event in answer.events:
            if self._request.is_streamed and is_first and isinstance(event, Chunk):
                is_first = False
                self._metrics.first_token(self._request.model, trio.current_time() - asked_at)
            if isinstance(event, Done):
                is_done = True
                self._metrics.finished(self._request.model, event.usage)
            yield event
        if not is_done:
            raise Misbehaved("the answer stopped before its end")

    async def _send_stream(
        self, answer: Answer, events: AsyncGenerator[AnswerEvent], asked_at: float, send: Send
    ) -> list[Message]:
        """Send all but the end, which is returned."""
        end: list[Message] = []
        last_sent_at = trio.current_time()
        is_started = False
        async for event in events:
            now = trio.current_time()
            body = self._words(event, silence=now - last_sent_at)
            if not body:
                continue
            if not is_started:
                is_started = True
                await send(_head([*sse.HEADERS, *_routing_headers(answer, {"wait": now - asked_at})]))
                body = self._shape.opening() + body
            if isinstance(event, Done):
                end = [_body(body, is_last=True)]
            else:
                await send(_body(body, is_last=False))
            last_sent_at = trio.current_time()
        return end

    def _words(self, event: AnswerEvent, silence: float) -> bytes:
        """What a stream says of `event`, after `silence` seconds; nothing if it is not worth a write."""
        match event:
            case Chunk():
                return self._shape.chunk(event) if event.text else b""
            case Progress():
                is_due = silence >= _SILENCE_MAX
                return sse.comment(f"prefill {event.prefilled}/{event.total}") if is_due else b""
            case Done():
                return self._shape.closing(event)

    async def _whole(self, answer: Answer, events: AsyncGenerator[AnswerEvent]) -> list[Message]:
        end: list[Message] = []
        texts: dict[int, list[str]] = {}
        async for event in events:
            match event:
                case Chunk():
                    texts.setdefault(event.choice, []).append(event.text)
                case Done():
                    joined = ["".join(texts.get(choice, ())) for choice in range(len(event.finish_reasons))]
                    body = sse.dumps(self._shape.whole(joined, event)).encode()
                    headers = [
                        (b"content-type", b"application/json"),
                        (b"content-length", b"%d" % len(body)),
                        *_routing_headers(answer, asdict(event.timings)),
                    ]
                    end = [_head(headers), _body(body, is_last=True)]
        return end


def _head(headers: Sequence[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(body: bytes, *, is_last: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}


async def _cancel_on_hang_up(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


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
