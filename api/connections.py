"""The connections that clients have open, and which of them makes room for a new one.

    open  --> waits for a request --> its body is here: answers --> waits again
                    ^ closed for a new one, who has waited longest first

A bound alone would shut everybody out as soon as one client holds that many. So one that waits, or sends its
request a byte at a time, is closed for a new one. One that is being answered never is: a model may take
minutes before its first word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Client: TypeAlias = tuple[str, int]
"""Host and port of the other end: no two connections have the same."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Requests that are complete with their head."""


@dataclass(slots=True, eq=False)
class _Connection:
    close: Callable[[], None]
    waits_since: float
    """On trio's clock."""
    answers: int = 0
    """Requests whose body is here and whose answer is not over."""


class Connections:
    """At most `size_max` connections at once."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._open: dict[Client, _Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def hold(self, client: Client, close: Callable[[], None]) -> Iterator[bool]:
        """Count one more. Yields whether there is room for it, by closing another if need be.

        `close` ends it, now or soon; it is not counted any more from then on.
        """
        if len(self._open) >= self._size_max and not self._make_room():
            yield False
            return
        connection = self._open[client] = _Connection(close, trio.current_time())
        try:
            yield True
        finally:
            if self._open.get(client) is connection:
                del self._open[client]

    def watching(self, app: ASGIApp) -> ASGIApp:
        """`app`, on whose requests it is noted which connections answer."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            connection = self._open.get(tuple((scope.get("client") or ())[:2]))
            if connection is None:
                await app(scope, receive, send)
                return
            is_here = scope.get("method") in _BODILESS
            connection.answers += is_here

            async def receive_watched() -> Message:
                nonlocal is_here
                message = await receive()
                if not is_here and not message.get("more_body", False):
                    is_here = True
                    connection.answers += 1
                return message

            try:
                await app(scope, receive_watched, send)
            finally:
                connection.answers -= is_here
                connection.waits_since = trio.current_time()

        return watched

    def _make_room(self) -> bool:
        """Whether one was closed: none that answers."""
        waiting = [(each.waits_since, client) for client, each in self._open.items() if not each.answers]
        if not waiting:
            return False
        self._open.pop(min(waiting)[1]).close()
        return True
