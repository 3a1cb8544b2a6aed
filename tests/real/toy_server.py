"""A server of another program, played on a real port: what it answers is up to the test.

    toy = ToyServer({"/v1/models": page(200, {"data": []})})
    await nursery.start(toy.serve)
    toy.pages["/v1/chat/completions"] = stream(event("hel"), event("lo"), END)

One request per connection. Whatever was asked is kept in `asked`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

END = b"data: [DONE]\n\n"


@dataclass
class Asked:
    """One request, and the way to answer it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    stream: trio.SocketStream
    client_left: trio.Event = field(default_factory=trio.Event)

    async def head(self, status: int = 200, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} As The Test Says", "connection: close", *headers, "", ""]
        await self.stream.send_all("\r\n".join(lines).encode())


Page: TypeAlias = Callable[[Asked], Awaitable[None]]


def page(status: int, value: Any, *headers: str) -> Page:
    """JSON of `value`, or `value` itself if it is bytes."""

    async def answer(asked: Asked) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        await asked.head(status, "content-type: application/json", f"content-length: {len(body)}", *headers)
        await asked.stream.send_all(body)

    return answer


def stream(*pieces: bytes, gate: trio.Event | None = None) -> Page:
    """Server-sent events; all but the first piece wait for the `gate`, if there is one."""

    async def answer(asked: Asked) -> None:
        await asked.head(200, "content-type: text/event-stream")
        for index, piece in enumerate(pieces):
            if index and gate is not None:
                await gate.wait()
            await asked.stream.send_all(piece)

    return answer


def hang(reached: trio.Event | None = None) -> Page:
    """Not a word."""

    async def answer(_: Asked) -> None:
        if reached is not None:
            reached.set()
        await trio.sleep_forever()

    return answer


def event(text: str, reason: str | None = None) -> bytes:
    """A piece of a chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


class ToyServer:
    """Answers on one port of loopback, as `pages` say; 404 everywhere else."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self.pages = pages
        self.asked: list[Asked] = []
        self.port = 0
        self._life = trio.CancelScope()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `stop`; then again, on the same port."""
        self._life = trio.CancelScope()
        with self._life:
            [listener] = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._answer, [listener])
                task_status.started()

    def stop(self) -> None:
        self._life.cancel()

    async def _answer(self, connection: trio.SocketStream) -> None:
        try:
            async with connection, trio.open_nursery() as nursery:
                asked = await _read(connection)
                self.asked.append(asked)
                nursery.start_soon(_watch, asked, nursery.cancel_scope)
                await self.pages.get(asked.path, page(404, {"detail": "Not Found"}))(asked)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass


async def _watch(asked: Asked, life: trio.CancelScope) -> None:
    try:
        while await asked.stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    asked.client_left.set()
    life.cancel()


async def _read(connection: trio.SocketStream) -> Asked:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await connection.receive_some()
        if not piece:
            raise trio.BrokenResourceError
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += await connection.receive_some()
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, json.loads(body) if body else None, connection)


@asynccontextmanager
async def serving(pages: dict[str, Page]) -> AsyncIterator[ToyServer]:
    """A toy server for as long as the block lasts."""
    toy = ToyServer(pages)
    async with trio.open_nursery() as nursery:
        await nursery.start(toy.serve)
        yield toy
        nursery.cancel_scope.cancel()
