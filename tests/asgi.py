"""An ASGI app called in-process, with its body as it is produced.

`httpx.ASGITransport` runs the app to its end before the first byte can be seen; here
a stream can be watched piece by piece, and leaving the block early is a client that
hangs up.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio
from starlette.types import ASGIApp, Message


class HungUp(Exception):
    """Raised by the pieces of a body: the client is gone in the middle of it."""


@dataclass
class Reply:
    """One complete answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The JSON of each server-sent event; `[DONE]` as that text."""
        data = [
            line.removeprefix("data: ")
            for line in self.body.decode().splitlines()
            if line.startswith("data: ")
        ]
        return [each if each == "[DONE]" else json.loads(each) for each in data]


@dataclass
class Exchange:
    """One request under way."""

    messages: trio.MemoryReceiveChannel[Message]
    body_read: int = 0
    """Bytes of the request's body that the app has taken."""
    _head: Message = field(default_factory=dict)

    async def head(self) -> Message:
        """Status and headers, as soon as they are there."""
        if not self._head:
            self._head = dict(await self.messages.receive())
            assert self._head["type"] == "http.response.start"
        return self._head

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The pieces of the body as they are sent."""
        await self.head()
        while True:
            message = await self.messages.receive()
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def reply(self) -> Reply:
        """Everything, at the end."""
        head = await self.head()
        body = b"".join([chunk async for chunk in self.chunks()])
        headers = {name.decode(): value.decode() for name, value in head["headers"]}
        return Reply(head["status"], headers, body)


@asynccontextmanager
async def open_request(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    json_body: Any = None,
    body: bytes | None = None,
    pieces: AsyncGenerator[bytes] | None = None,
    headers: Mapping[str, str | None] | None = None,
    kind: str = "http",
) -> AsyncIterator[Exchange]:
    """Call `app`; leaving the block hangs up and waits until the app has noticed."""
    if json_body is not None:
        body = json.dumps(json_body).encode()
    sent = {"host": "127.0.0.1:8080"}
    if body is not None:
        sent |= {"content-type": "application/json", "content-length": str(len(body))}
    path, _, query = path.partition("?")
    merged = {**sent, **(headers or {})}
    scope = {
        "type": kind,
        # What hypercorn 0.18 says of itself; starlette notices a hang-up differently from 2.4 on.
        "asgi": {"version": "3.0", "spec_version": "2.1"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in merged.items() if value is not None
        ],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8080),
    }
    to_test, from_app = trio.open_memory_channel[Message](0)
    exchange = Exchange(from_app)
    hung_up = trio.Event()
    pieces = pieces or _once(body or b"")
    messages = _request_messages(pieces, exchange)

    async def receive() -> Message:
        async for message in messages:
            return message
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        with suppress(
            trio.BrokenResourceError
        ):  # As hypercorn: what is sent to a client that is gone gets lost.
            await to_test.send(message)

    async with aclosing(pieces), aclosing(messages), trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, receive, send)
        yield exchange
        hung_up.set()
        from_app.close()


async def _request_messages(pieces: AsyncGenerator[bytes], exchange: Exchange) -> AsyncGenerator[Message]:
    try:
        async for piece in pieces:
            exchange.body_read += len(piece)
            yield {"type": "http.request", "body": piece, "more_body": True}
    except HungUp:
        yield {"type": "http.disconnect"}
    else:
        yield {"type": "http.request", "body": b"", "more_body": False}


async def _once(body: bytes) -> AsyncGenerator[bytes]:
    if body:
        yield body
