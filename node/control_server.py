"""The node's side of the control socket (`control.py` draws the exchange).

Whoever may read the home may command the node: the socket and the cookie lie in it.
A command runs in its caller's connection; a caller that goes away cancels nothing,
because a drain that was asked for shall happen.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import trio

from node.control import FRAME_SIZE_MAX
from node.errors import NodeError
from node.home import Home, write_private
from p2p.errors import BadFrame, FrameTooLarge
from p2p.frame_stream import FrameStream

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers one command: arguments in, a result msgpack can carry out. A `NodeError` is told to the caller."""

_ASK_TIMEOUT = 5.0
"""Seconds a caller may take to ask; ours ask at once, so others are stuck."""
_REPLY_TIMEOUT = 1.0
"""Seconds a caller may take to read its answer, which the system's buffer mostly holds whole."""
_CALLERS_MAX = 32
"""At once. Commands are typed by hand: only a script that went wrong asks more at a time."""
_SOCKET_PATH_MAX = 100
"""Bytes: Unix allows 104 (macOS) to 108 (Linux) for the path of a socket."""


async def serve_control(
    home: Home,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled; then nothing of the socket is left.

    Raises:
      NodeError: the home cannot be written.
    """
    listener, place, cookie = await _listen(home)
    try:
        async with listener, trio.open_nursery() as nursery:
            write_private(home.control_file, place.encode())
            server = ControlServer(handlers, cookie)
            await nursery.start(partial(trio.serve_listeners, server.answer, [listener]))
            task_status.started()
    finally:
        home.control_file.unlink(missing_ok=True)
        if place.startswith("unix "):
            Path(place.removeprefix("unix ")).unlink(missing_ok=True)


async def _listen(home: Home) -> tuple[trio.SocketListener, str, str]:
    """A listener, what `run/control` says of it, and the cookie its callers must show."""
    if hasattr(socket, "AF_UNIX"):
        try:
            listener, path = _listen_unix(home)
        except OSError as error:
            # The home, or the folder for short paths, is on a drive that knows no sockets.
            logger.info("no Unix socket for commands, a TCP port instead: %s", error)
        else:
            return listener, f"unix {path}", ""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    cookie = secrets.token_hex(16)
    return listener, f"tcp {port} {cookie}", cookie


def _listen_unix(home: Home) -> tuple[trio.SocketListener, Path]:
    path = home.run / "control.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        # A short path of our own: the hash keeps homes apart, mkdir's mode keeps others out.
        name = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"localai-node-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to somebody else")
        path = folder / name
    # We hold the home's lock, so a socket that lies there is a dead node's.
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    try:
        bound.bind(os.fspath(path))
        path.chmod(0o600)
        bound.listen(_CALLERS_MAX)
    except BaseException:
        bound.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound)), path


class ControlServer:
    """Answers one command per connection."""

    def __init__(self, handlers: Mapping[str, Handler], cookie: str) -> None:
        self._handlers = handlers
        self._cookie = cookie
        self._callers = trio.CapacityLimiter(_CALLERS_MAX)

    async def answer(self, stream: trio.SocketStream) -> None:
        """Answer the one command that comes on `stream`, and close it."""
        async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
            try:
                self._callers.acquire_nowait()
            except trio.WouldBlock:
                logger.warning("a command was turned away, because %s are being answered", _CALLERS_MAX)
                return
            try:
                await self._answer(frames)
            except (BadFrame, OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
                logger.debug("a control connection ended early: %s", error)
            finally:
                self._callers.release()

    async def _answer(self, frames: FrameStream) -> None:
        with trio.fail_after(_ASK_TIMEOUT):
            request = await frames.receive()
        if request is None or not hmac.compare_digest(
            str(request.get("cookie")).encode(), self._cookie.encode()
        ):
            return
        reply = await self._carry_out(request.get("command"), request.get("arguments"))
        # `leave` ends the node: its caller shall hear that it worked all the same.
        with trio.move_on_after(_REPLY_TIMEOUT, shield=True):
            try:
                await frames.send(reply)
            except FrameTooLarge as error:
                await frames.send({"error": f"the answer is too large: {error}"})

    async def _carry_out(self, command: object, arguments: object) -> dict[str, Any]:
        handler = self._handlers.get(str(command))
        if handler is None or not isinstance(arguments, dict):
            return {"error": f"this node does not know the command {command!r}; is it an older version?"}
        try:
            return {"result": await handler(arguments)}
        except NodeError as error:
            return {"error": str(error)}
        except Exception:  # One command's trouble, whatever it is, must not end the node.
            logger.exception("the command %r failed", command)
            return {"error": f"the command {command!r} failed in the node; its log says how"}
