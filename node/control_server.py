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
from p2p.errors import BadFrame
from p2p.frame_stream import FrameStream

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers one command: arguments in, a result msgpack can carry out. A `NodeError` is told to the caller."""

_ASK_TIMEOUT = 5.0
"""Seconds a caller may take to ask; ours ask at once, so others are stuck."""
_REPLY_TIMEOUT = 1.0
"""Seconds a caller may take to read its answer, which the system's buffer mostly holds whole."""
_SOCKET_PATH_MAX = 100
"""Bytes: Unix allows 104 (macOS) to 108 (Linux) for the path of a socket."""


async def serve_control(
    home: Home,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled; then nothing of the socket is left."""
    if hasattr(socket, "AF_UNIX"):
        listener, place, cookie = _listen_unix(home)
    else:
        listener, place, cookie = await _listen_tcp()
    try:
        write_private(home.control_file, place.encode())
        async with trio.open_nursery() as nursery:
            answer = partial(_answer, handlers=handlers, cookie=cookie)
            await nursery.start(partial(trio.serve_listeners, answer, [listener]))
            task_status.started()
    finally:
        home.control_file.unlink(missing_ok=True)
        if place.startswith("unix "):
            Path(place.removeprefix("unix ")).unlink(missing_ok=True)


def _listen_unix(home: Home) -> tuple[trio.SocketListener, str, str]:
    path = home.run / "control.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        # A short path of our own: the hash keeps homes apart, mkdir's mode keeps others out.
        name = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"localai-node-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise NodeError(f"{folder} belongs to somebody else; choose a shorter --home")
        path = folder / name
    # We hold the home's lock, so a socket that lies there is a dead node's.
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(os.fspath(path))
    path.chmod(0o600)
    bound.listen(16)  # commands are typed by hand
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound)), f"unix {path}", ""


async def _listen_tcp() -> tuple[trio.SocketListener, str, str]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    cookie = secrets.token_hex(16)
    return listener, f"tcp {port} {cookie}", cookie


async def _answer(stream: trio.SocketStream, *, handlers: Mapping[str, Handler], cookie: str) -> None:
    async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
        try:
            with trio.fail_after(_ASK_TIMEOUT):
                request = await frames.receive()
            if request is None or not hmac.compare_digest(str(request.get("cookie", "")), cookie):
                return
            reply = await _carry_out(request, handlers)
            # `leave` ends the node: its caller shall hear that it worked all the same.
            with trio.move_on_after(_REPLY_TIMEOUT, shield=True):
                await frames.send(reply)
        except (BadFrame, OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            logger.debug("a control connection ended early: %s", error)


async def _carry_out(request: Mapping[str, Any], handlers: Mapping[str, Handler]) -> dict[str, Any]:
    command, arguments = request.get("command"), request.get("arguments")
    handler = handlers.get(str(command))
    if handler is None or not isinstance(arguments, dict):
        return {"error": f"this node does not know the command {command!r}; is it an older version?"}
    try:
        return {"result": await handler(arguments)}
    except NodeError as error:
        return {"error": str(error)}
