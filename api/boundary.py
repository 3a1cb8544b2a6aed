"""The outermost layer of the app: where each request gets its id, its counters and its errors.

The only place that catches everything. An error before the head of the answer becomes
a status and an error object; one in the middle of a stream becomes its last event, so
that no stream ends as if it were complete; a bug is logged once and answered as 500.
"""

from __future__ import annotations

import json
import logging
import re
import uuid

import trio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import sse
from api.error_table import http_error_of
from api.errors import HttpError
from api.metrics import Metrics
from api.request_report import RequestReport

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Ids of others that are safe to print, log and send on; 64 holds a UUID and any trace id."""

_LINGER = 2.0
"""Seconds we go on reading the body of a request that we refused. A client that is still sending
would lose our answer with the connection otherwise; a long upload is cut all the same."""


class Boundary:
    """ASGI middleware; lets nothing but cancellation through."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "this API has no websockets"})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        report = RequestReport(_request_id(Headers(scope=scope)))
        scope.setdefault("state", {}).update(request_id=report.request_id, report=report)
        exchange = _Exchange(report, receive, send)
        try:
            with self._metrics.in_flight.track_inprogress():
                try:
                    await self._app(scope, exchange.receive, exchange.send)
                except Exception as error:  # noqa: BLE001 (the one place where a request's errors end)
                    await exchange.fail(error)
                else:
                    report.status = "ok" if exchange.is_complete else "cancelled"
        finally:
            report.publish(scope, self._metrics)


class _Exchange:
    """One request and its answer, as far as they have come."""

    def __init__(self, report: RequestReport, receive: Receive, send: Send) -> None:
        self.is_complete = False
        self._report = report
        self._hung_up = False
        self._receive = receive
        self._send = send
        self._received_all = False
        self._started = False
        self._is_stream = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._received_all = not message.get("more_body", False)
        self._hung_up = message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._report.http_status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._report.request_id.encode())]
            self._is_stream = sse.CONTENT_TYPE in headers
            message = {**message, "headers": headers}
        elif not message.get("more_body", False):
            self.is_complete = True
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """End the answer with `error`, in whatever way is still possible."""
        http_error = http_error_of(error)
        if http_error is None:
            logger.error("request %s failed unexpectedly", self._report.request_id, exc_info=error)
            http_error = HttpError(
                500,
                f"an internal error; the log of this node has more under {self._report.request_id}",
                type="server_error",
                code="internal_error",
            )
        self._report.status = "cancelled" if self._hung_up else http_error.code or http_error.type
        if self._hung_up:
            return  # Nobody is there to be told.
        if not self._started:
            await self._refuse(http_error)
        elif self._is_stream:
            await self._send_body(sse.event(http_error.body()))
        # A JSON answer that broke in the middle is left unfinished, and the server closes the connection.

    async def _refuse(self, error: HttpError) -> None:
        body = json.dumps(error.body()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        with trio.move_on_after(_LINGER):
            while not self._received_all:
                await self.receive()
        await self._send_body(b"")

    async def _send_body(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _request_id(headers: Headers) -> str:
    """The client's own id if it is a sane one, else a new one."""
    offered = headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else f"req-{uuid.uuid4().hex}"
