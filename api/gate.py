"""The gate: ASGI middleware that lets in what `access.py` allows, with a bounded body."""

from __future__ import annotations

import trio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import check_access, check_content_type
from api.settings import ApiSettings

BODY_TIMEOUT = 60.0
"""Seconds from the head of a request to the end of its body: 4 MB over 0.5 Mbit/s, the poorest Wi-Fi."""


class Gate:
    """Raises what it refuses; `Boundary` turns that into an answer."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            check_access(scope["path"], headers, self._settings)
            check_content_type(headers)
            size_max = self._settings.body_size_max
            announced = headers.get("content-length", "0")
            if announced.isdecimal() and int(announced) > size_max:
                raise _too_large(size_max)
            receive = _bounded(receive, size_max)
        await self._app(scope, receive, send)


def _bounded(receive: Receive, size_max: int) -> Receive:
    """`receive` that gives up on a body that is too long or takes too long."""
    deadline = trio.current_time() + BODY_TIMEOUT
    size = 0
    complete = False

    async def receive_bounded() -> Message:
        nonlocal size, complete
        if complete:  # What comes now is the end of the connection, and that may take as long as it likes.
            return await receive()
        try:
            with trio.fail_at(deadline):
                message = await receive()
        except trio.TooSlowError:
            raise HTTPException(408, f"the body did not arrive within {BODY_TIMEOUT:.0f} s") from None
        size += len(message.get("body", b""))
        if size > size_max:
            raise _too_large(size_max)
        complete = not message.get("more_body", False)
        return message

    return receive_bounded


def _too_large(size_max: int) -> HTTPException:
    # An HTTPException, because FastAPI takes any other error while it reads a body for a parsing error.
    return HTTPException(413, f"the body is larger than {size_max} bytes")
