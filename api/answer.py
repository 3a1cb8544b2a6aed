"""An answer of a backend as an HTTP response: one JSON body, or a stream of events.

The backend works only as long as the client is there. A client that hangs up, while
it waits or in the middle of the answer, streamed or not, ends the backend's `with`
block, and that frees the slot wherever it is.

Of a stream the head is sent with the first token, so that everything that can go wrong before it
has a status of its own. Only after a long wait it goes out without one, and without saying who
answers, because clients and proxies give up on a silent connection. The end is sent when
the slot is free again: a client that does not read it holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

import trio
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api import sse
from api.collected import CollectedAnswer
from api.request_report import RequestReport, decisive
from api.shapes import AnswerShape, StreamShape
from federation.backend import Answer, AnswerEvent, Chunk, Done, InferenceRequest, Progress, Resumed
from federation.errors import FederationError, Misbehaved

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
        self, open_answer: OpenAnswer, requests: Sequence[InferenceRequest], shape: AnswerShape
    ) -> None:
        """`requests` are what `open_answer` has served, as one answer."""
        self.background = None
        """FastAPI looks at this; nothing runs after an answer."""
        self._open_answer = open_answer
        self._requests = requests
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        report: RequestReport = scope["state"]["report"]
        report.requests = self._requests
        result = _Result()
        async with trio.open_nursery() as nursery:
            # In a task of its own: whenever an event wakes it, a task passes through all its callers, and of
            # those this one has two dozen.
            nursery.start_soon(self._answer, report, send, result, nursery.cancel_scope)
            nursery.start_soon(self._bridge_silence, send)
            await hang_up(receive)
            nursery.cancel_scope.cancel()
        if result.failure is not None:
            raise result.failure
        # Only now: to hypercorn the end of an answer is a disconnect as well, and if we were cancelled for it
        # within this call, the connection would never count as idle, and outlast any timeout.
        for message in result.end:
            await send(message)

    async def _bridge_silence(self, send: Send) -> None:
        """Only in streams can something be said before there is an answer."""

    async def _answer(
        self, report: RequestReport, send: Send, result: _Result, waiting: trio.CancelScope
    ) -> None:
        """Deliver all but the end, which goes into `result`."""
        try:
            async with self._open_answer() as answer:
                result.end = await self._deliver(answer, report, send)
            if report.done is None:
                raise Misbehaved("the answer stopped before its end")
        except FederationError as error:
            result.failure = error  # Carried out by hand: the nursery would wrap it in a group.
        waiting.cancel()

    async def _deliver(self, answer: Answer, report: RequestReport, send: Send) -> list[Message]:
        """Send nothing until the slot is free: all is returned. `report` gets the end."""
        end: list[Message] = []
        collected = CollectedAnswer()
        async for event in answer.events:
            match event:
                case Chunk():
                    collected.add(event)
                case Done():
                    report.done = event
                    body = await _joined(self._shape.whole(collected, event))
                    headers = [
                        (b"content-type", b"application/json"),
                        (b"content-length", b"%d" % len(body)),
                        *self._routing_headers(answer),
                    ]
                    end = [_head(headers), _body(body, is_last=True)]
        return end

    def _routing_headers(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        """Who answered, after how many attempts, what it had to expect when it came for a slot (how many were
        to go before it, and how long that would take), and what took how long until now, as the front saw it.

        `Server-Timing` is in milliseconds. What has not begun yet, as decode where the head of a stream is
        sent, is not in it.
        """
        now = trio.current_time()
        trace = decisive([request.trace for request in self._requests], now)
        phases = asdict(trace.phases(now))
        if trace.done is None:
            del phases["decode"]
        durations = ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in phases.items())
        headers = [
            (b"x-localai-peer", answer.served_by.encode()),
            (b"x-localai-attempts", b"%d" % answer.attempts),
            (b"x-localai-queue-position", b"%d" % answer.queued.position),
            (b"server-timing", durations.encode()),
        ]
        if (estimate := answer.queued.estimate) is not None:
            headers.append((b"x-localai-queue-estimate-ms", b"%.1f" % (estimate * 1000)))
        return headers


class StreamResponse(InferenceResponse):
    """The same, piece by piece as it comes."""

    def __init__(
        self, open_answer: OpenAnswer, requests: Sequence[InferenceRequest], shape: StreamShape
    ) -> None:
        super().__init__(open_answer, requests, shape)
        self._stream_shape = shape
        self._is_started = False
        """The head was sent."""
        self._is_answered = trio.Event()
        self._sending = trio.Lock()
        """Held by who bridges the silence until then."""

    async def _bridge_silence(self, send: Send) -> None:
        """Until somebody answers: a slot or a model may take longer than clients wait for a sign of life."""
        while True:
            with trio.move_on_after(_SILENCE_MAX):
                await self._is_answered.wait()
                return
            async with self._sending:
                if not self._is_answered.is_set():
                    await self._start(send, [])
                    await send(_body(sse.comment(self._waiting()), is_last=False))

    def _waiting(self) -> str:
        """What it waits for, of several prompts the first: a slot, or a model."""
        position = self._requests[0].trace.position
        return "waiting" if position is None else f"waiting for a slot, {position} were to go before"

    def _late(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """`headers` as comments, where the head went out before they were known."""
        lines = [b"%s: %s" % header for header in headers] if self._is_started else []
        return b"".join(sse.comment(line.decode()) for line in lines)

    async def _start(self, send: Send, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if not self._is_started:
            self._is_started = True
            await send(_head([*sse.HEADERS, *headers]))

    async def _deliver(self, answer: Answer, report: RequestReport, send: Send) -> list[Message]:
        """Send all but the end, which is returned, to go out when the slot is free; `report` gets it too."""
        end: list[Message] = []
        self._is_answered.set()
        async with self._sending:
            last_sent_at = trio.current_time()
        is_opened = False
        async for event in answer.events:
            now = trio.current_time()
            body = self._words(event, silence=now - last_sent_at)
            if not body:
                continue
            if not is_opened:
                is_opened = True
                headers = self._routing_headers(answer)
                body = self._late(headers) + self._stream_shape.opening() + body
                await self._start(send, headers)
            if isinstance(event, Done):
                report.done = event
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
            case Resumed(peer, tokens):
                return sse.comment(f"resumed on {peer} after {tokens} tokens")
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


async def hang_up(receive: Receive) -> None:
    """Wait until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
