"""The control socket: how a command finds the node that runs in a home, and asks it something.

    command                               node
      | -- {command, arguments} ----------> |
      | <-------- {result} or {error} ----- |     one question per connection

`run/control` in the home says where: `unix <path>`, or `tcp <port> <cookie>` where
there are no Unix sockets (Windows, some network drives). The home is readable by its owner alone, and so
is the socket; over TCP the cookie takes that place. Frames are `p2p/framing.py`'s.

This is the asking side, with plain sockets and no trio, so that `status` starts at
once. `control_server.py` is the other.
"""

from __future__ import annotations

import socket
from typing import Any

from node.errors import CommandRefused, NoAnswer, NotRunning
from node.home import Home
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame

FRAME_SIZE_MAX = 4 * 1024 * 1024
"""The status of a swarm of a thousand nodes is about a megabyte."""

_ANSWER_TIMEOUT = 5.0
"""Seconds a node may take to answer: it does so from memory. `drain` and `leave` bring their own."""


def ask(home: Home, command: str, *, timeout: float = _ANSWER_TIMEOUT, **arguments: Any) -> Any:  # noqa: ANN401 (results are as different as commands)
    """What the node running in `home` answers to `command`.

    Raises:
      NotRunning: none runs there.
      NoAnswer: it was silent for `timeout` seconds, or ended first; it may have done what was asked.
      CommandRefused: it said no; the text is its reason.
    """
    try:
        connection, cookie = _connect(home, timeout)
    except (OSError, ValueError) as error:
        raise NotRunning(
            f"no node runs in {home.path}; start one with `localai-node start`, or name another --home"
        ) from error
    request = {"command": command, "arguments": arguments, "cookie": cookie}
    with connection:
        try:
            connection.sendall(encode_frame(request, FRAME_SIZE_MAX))
            reply = _receive(connection)
        except TimeoutError as error:
            raise NoAnswer(f"the node in {home.path} did not answer within {timeout:g} s") from error
        except (OSError, BadFrame) as error:
            raise NoAnswer(f"the node in {home.path} went away before it answered") from error
    if "error" in reply:
        raise CommandRefused(str(reply["error"]))
    return reply.get("result")


def _connect(home: Home, timeout: float) -> tuple[socket.socket, str]:
    """A connection to the node in `home`, and the cookie it wants to see.

    Raises:
      OSError: nobody is there.
      ValueError: `run/control` is not what a node writes.
    """
    kind, place = home.control_file.read_text(encoding="utf-8").split(" ", 1)
    if kind == "tcp":
        port, cookie = place.split(" ")
        return socket.create_connection(("127.0.0.1", int(port)), timeout), cookie
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(place)
    except BaseException:
        connection.close()
        raise
    return connection, ""


def _receive(connection: socket.socket) -> dict[str, Any]:
    decoder = FrameDecoder(FRAME_SIZE_MAX)
    while data := connection.recv(64 * 1024):
        for reply in decoder.feed_untrusted(data):
            return reply
    raise BadFrame("the node closed the connection without an answer")
