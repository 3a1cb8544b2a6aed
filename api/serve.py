"""Shell: the app on a TCP port, with hypercorn's HTTP on trio.

hypercorn speaks HTTP on one connection; accepting, counting and stopping is done here,
because hypercorn's own server neither bounds connections (`connections.py`) nor can be stopped
while a client has stopped reading (it shields its writes from cancellation).
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from api.connections import Connections
from api.errors import AddressInUse, ListenFailed
from api.http1 import HEAD_SIZE_MAX, Http1Server

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 512
"""At once: half of the 1024 files a process may open by default; peers and engines need some too."""

WRITE_TIMEOUT = 30.0
"""Seconds in which a client must read what we wrote. One that does not holds a slot that others wait for."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where we listen, with the real port."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """What a program on this machine can call."""
        host = self.host
        address = ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    stop: trio.Event,
    grace: float = 10.0,
    task_status: trio.TaskStatus[ServerAddress] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `stop`, then finish the running answers for at most `grace` seconds.

    Reports the address once it is listened on; port 0 is any free one. Cancelled:
    every connection is closed at once.

    Raises:
      AddressInUse: another program has the port.
      ListenFailed: the host is not one of this machine, or may not be used.
    """
    listener = await _listen(host, port)
    listen_host, listen_port = listener.socket.getsockname()[:2]
    context = WorkerContext(max_requests=None)
    bounded = Connections(CONNECTIONS_MAX)
    new_server = partial(Http1Server, wrap_app(bounded.watching(app), 0, "asgi"), _config(), context)
    async with trio.open_nursery() as connections:
        handle = _Speaker(new_server, bounded).handle
        accept = partial(trio.serve_listeners, handle, [listener], handler_nursery=connections)
        async with trio.open_nursery() as accepting:
            accepting.start_soon(accept)
            task_status.started(ServerAddress(listen_host, listen_port))
            await stop.wait()
            accepting.cancel_scope.cancel()
        # Idle connections close now, the others when their answer is complete.
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + grace


async def _listen(host: str, port: int) -> trio.SocketListener:
    try:
        # `localhost` has two addresses. One is enough, and the printed URL names it.
        resolved = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        first = min(resolved, key=lambda each: each[0] != trio.socket.AF_INET)
        [listener] = await trio.open_tcp_listeners(port, host=str(first[4][0]))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"another program listens on {host}:{port}; choose another port with --api {host}:PORT"
            ) from error
        raise ListenFailed(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except UnicodeError as error:  # What Python raises for a name that no DNS could hold.
        raise ListenFailed(f"cannot listen on {host}:{port}: that is not the name of a host") from error
    return listener


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logger
    config.include_server_header = False
    # Longer than common clients keep an idle connection in their pool (httpx 5 s, aiohttp 15 s), so
    # that it is the client who closes it, and no request meets a server that is just closing.
    # Also the time in which the head of a connection's first request must arrive.
    config.keep_alive_timeout = 75.0
    config.h11_max_incomplete_size = HEAD_SIZE_MAX
    return config


@dataclass(slots=True)
class _Speaker:
    """Speaks HTTP on each connection until it ends."""

    new_server: Callable[[ConnectionState, _ClientStream], Http1Server]
    connections: Connections

    async def handle(self, stream: trio.SocketStream) -> None:
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            return  # It has hung up already.
        client, scope = _ClientStream(stream), trio.CancelScope()

        def close() -> None:
            # Before hypercorn hears of it, which would word it as a failure of ours.
            client.socket.close()
            scope.cancel()

        with self.connections.hold((host, port), close) as has_room, scope:
            if has_room:
                await self._speak(client)
            else:
                logger.warning("closed a new HTTP connection, because %s answer", len(self.connections))
                client.socket.close()

    async def _speak(self, client: _ClientStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_when_cancelled, client.socket)
                await self.new_server(ConnectionState({}), client)
                nursery.cancel_scope.cancel()
        except Exception:  # One connection's trouble, whatever it is, must not end the others.
            logger.exception("an HTTP connection failed")


async def _close_when_cancelled(client: trio.socket.SocketType) -> None:
    try:
        await trio.sleep_forever()
    finally:
        client.close()  # Wakes a write that is shielded from the same cancellation.


class _ClientStream(trio.abc.HalfCloseableStream):
    """A connection to a client that has to keep reading."""

    def __init__(self, accepted: trio.SocketStream) -> None:
        """Takes over the socket of `accepted`."""
        # trio's own has no way to write without a turn of its scheduler.
        self._socket = socket.socket(fileno=accepted.socket.detach())
        self.socket = trio.socket.from_stdlib_socket(self._socket)
        self._stream = trio.SocketStream(self.socket)

    def send_nowait(self, data: bytes) -> bytes:
        """Send what there is room for; returns the rest. A connection that broke has room for nothing."""
        try:
            return data[self._socket.send(data) :]
        except OSError:
            return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(WRITE_TIMEOUT) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            self.socket.close()
            raise trio.BrokenResourceError(f"the client read nothing for {WRITE_TIMEOUT:.0f} s")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
