"""A web server on loopback that misbehaves on request, and what downloads write to in tests."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

import trio

from node.sources.download_core import DownloadLimits
from node.sources.web_url import WebUrl
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, chunk_count, chunk_size

QUICK = DownloadLimits(wait_first=0.0, attempts_max=3)
"""No waits between attempts, and not many."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Their names in small letters."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said, and what goes wrong with it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside a true `content-length`, unless they have one."""
    cut_after: int | None = None
    """Bytes of the body, after which the connection is closed."""
    silent_after: int | None = None
    """Bytes of the body, after which nothing more comes, until the other side goes away."""


Handler: TypeAlias = Callable[[Asked], Reply]


class Web:
    """The server. Paths it does not know are 404."""

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.port = port
        self.root = f"{scheme}://127.0.0.1:{port}"
        self.pages: dict[str, Handler] = {}
        self.asked: list[Asked] = []
        self.sent_bytes = 0
        """Of bodies."""

    def url(self, path: str) -> WebUrl:
        return WebUrl.parse(self.root + path)

    def ranges(self) -> list[str]:
        return [each.headers.get("range", "") for each in self.asked]

    async def answer(self, stream: trio.abc.Stream) -> None:
        head = b""
        async with stream:
            try:
                while b"\r\n\r\n" not in head:
                    more = await stream.receive_some()
                    if not more:
                        return
                    head += more
                asked = read_head(head)
                self.asked.append(asked)
                path = asked.target.partition("?")[0]
                handler = self.pages.get(path) or self.pages.get(asked.target)
                await self._say(stream, asked, handler(asked) if handler else Reply(404))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _say(self, stream: trio.abc.Stream, asked: Asked, reply: Reply) -> None:
        headers = {"content-length": str(len(reply.body)), "connection": "close", **reply.headers}
        lines = [
            f"HTTP/1.1 {reply.status} Said",
            *(f"{name}: {value}" for name, value in headers.items() if value),
        ]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        if asked.method == "HEAD":
            return
        stop = next(
            (each for each in (reply.cut_after, reply.silent_after) if each is not None), len(reply.body)
        )
        body = reply.body[:stop]
        await stream.send_all(body)
        self.sent_bytes += len(body)
        if reply.silent_after is not None:
            await stream.receive_some()


def read_head(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Asked(method, target, {name.lower(): value.strip() for name, _, value in pairs})


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    """A server that ends with the block."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    web = Web(listeners[0].socket.getsockname()[1], "https" if tls else "http")

    async def answer(stream: trio.SocketStream) -> None:
        await web.answer(
            trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else stream
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield web
        nursery.cancel_scope.cancel()


def file_of(content: bytes, *, etag: str = '"v1"', has_ranges: bool = True) -> Handler:
    """A file as good servers give it: with ranges, and all of it where If-Range names another version."""

    def handler(asked: Asked) -> Reply:
        headers = {"etag": etag, "content-type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
        if not match or not has_ranges or asked.headers.get("if-range", etag) != etag:
            return Reply(200, content, headers)
        start, end = int(match[1]), int(match[2] or len(content) - 1)
        if start >= len(content):
            return Reply(416, b"", {**headers, "content-range": f"bytes */{len(content)}"})
        part = content[start : end + 1]
        headers["content-range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
        return Reply(206, part, headers)

    return handler


def in_turn(*handlers: Handler) -> Handler:
    """Each answers once, the last one whatever comes after."""
    waiting = list(handlers)

    def handler(asked: Asked) -> Reply:
        now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return now(asked)

    return handler


def always(reply: Reply) -> Handler:
    return lambda _asked: reply


def broken(handler: Handler, *, after: int) -> Handler:
    """The same, but the connection is cut after that many bytes of a body."""
    return lambda asked: replace(handler(asked), cut_after=after)


def content_of(size_bytes: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size_bytes)


class MemorySink:
    """A `ChunkSink` in memory."""

    def __init__(self, size_bytes: int) -> None:
        self.content = bytearray(size_bytes)
        self.have = HaveMap(chunk_count(size_bytes))
        self.written: list[int] = []

    async def write(self, chunk: int, pieces: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        data = b"".join(pieces)
        assert len(data) == chunk_size(len(self.content), chunk)
        self.put(chunk, data)
        self.written.append(chunk)

    def put(self, chunk: int, data: bytes) -> None:
        """What somebody else brought."""
        self.content[chunk * CHUNK_SIZE : chunk * CHUNK_SIZE + len(data)] = data
        self.have.add(chunk)


class Shelf:
    """An `OpenTarget`: one sink, which is a new one for another file or version."""

    def __init__(self) -> None:
        self.sink = MemorySink(0)
        self.opened: list[tuple[int, str]] = []

    def hold(self, content: bytes, version: str, *chunks: int) -> None:
        """As if an earlier run had left these chunks."""
        self.sink = MemorySink(len(content))
        self.opened.append((len(content), version))
        for chunk in chunks:
            self.sink.put(chunk, content[chunk * CHUNK_SIZE : (chunk + 1) * CHUNK_SIZE])

    async def __call__(self, size_bytes: int, version: str) -> MemorySink:
        await trio.lowlevel.checkpoint()
        if not self.opened or self.opened[-1] != (size_bytes, version):
            self.sink = MemorySink(size_bytes)
        self.opened.append((size_bytes, version))
        return self.sink
