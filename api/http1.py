"""HTTP/1.1 on one connection: hypercorn's, whose own refusals are OpenAI's error object too.

It writes under a lock and a shield, with two turns of trio's scheduler: a lot for a token of
a stream. A socket has room for one nearly always, and is then written to at once.

What no application sees is refused by the protocol: a request line or a header that is
none, a head that is too large, a body that is not framed as it says. hypercorn answers
with a status and nothing else, where every client of ours expects to be told why.

What is overridden here is hypercorn's own affair and may change with its version: a test
over a socket looks at each of these answers.
"""

from __future__ import annotations

import json

from hypercorn.events import Event, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.tcp_server import TCPServer

from api.errors import HttpError

HEAD_SIZE_MAX = 16 * 1024
"""Bytes of a request's line and headers: with the cookies and tracing headers of real clients below 8 KiB."""

_REASONS = {
    431: f"the request line and the headers take more than {HEAD_SIZE_MAX} bytes",
    501: "a body may come with a Content-Length, or with the one transfer encoding `chunked`",
}
_NOT_HTTP = "this is not a valid HTTP/1.1 request: its line, a header or its body is malformed"


class Http1Server(TCPServer):  # type: ignore[misc]  # hypercorn is not looked into
    """One connection, which is over when it has been awaited."""

    async def _read_data(self) -> None:
        made = self.protocol
        made.protocol = _Http1Protocol(
            *(made.app, made.config, made.context, made.task_group, made.state, made.ssl),
            *(made.client, made.server, made.send),
        )
        await super()._read_data()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData) and not self.send_lock.locked():
            rest = self.stream.send_nowait(event.data)
            if not rest:
                return
            event = RawData(rest)
        await super().protocol_send(event)


class _Http1Protocol(H11Protocol):  # type: ignore[misc]  # the same
    async def _send_error_response(self, status_code: int) -> None:
        error = HttpError(status_code, _REASONS.get(status_code, _NOT_HTTP))
        body = json.dumps(error.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self.stream_send(Response(STREAM_ID, headers, status_code))
        await self.stream_send(Body(STREAM_ID, body))
        await self.stream_send(EndBody(STREAM_ID))
