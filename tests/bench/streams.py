"""Streamed completions over HTTP, read by as little code as can be: the client shares the cores it measures.

    answers = ask(address, [request, request, ...])               all at once, one connection each
    answers = ask_each([(address, request), (address, request)])  likewise, of several servers

It reads what has arrived and counts the events in it; JSON is parsed at the end only.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Request: TypeAlias = Mapping[str, Any]
"""The body of a completion."""

_READ_SIZE = 64 * 1024
_EVENT = re.compile(rb'"choices": ?\[\{')
"""Once in each event that carries text."""
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens":\s*(\d+)')


@dataclass(slots=True)
class Answer:
    """One stream. Times are those of `time.perf_counter`."""

    asked_at: float
    arrivals: list[float] = field(default_factory=list)
    """When text came; what came in one piece counts once."""
    ended_at: float = 0.0
    body: bytearray = field(default_factory=bytearray)

    @property
    def first_token_delay(self) -> float:
        """Seconds."""
        return self.arrivals[0] - self.asked_at

    @property
    def gaps(self) -> list[float]:
        """Seconds between two arrivals."""
        return [later - earlier for earlier, later in pairwise(self.arrivals)]

    @property
    def events(self) -> int:
        """That carry text."""
        return len(_EVENT.findall(self.body))

    @property
    def tokens(self) -> int:
        """As the server counts them, or else the events."""
        counted = _COMPLETION_TOKENS.findall(self.body)
        return int(counted[-1]) if counted else self.events

    @property
    def prompt_tokens(self) -> int:
        """As the server counts them."""
        return int(_PROMPT_TOKENS.findall(self.body)[-1])


class Conversation:
    """Streams that are read together; a running one may be left, and others may join."""

    def __init__(self, url: str = "") -> None:
        """`url`: of the server that is asked, where a request does not say."""
        self._url = url
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, tuple[socket.socket, Answer]] = {}

    @property
    def is_over(self) -> bool:
        return not self._open

    def ask(self, request: Request, url: str = "") -> Answer:
        """Begin one more stream."""
        body = json.dumps({**request, "stream": True}).encode()
        server = urlsplit(url or self._url).netloc
        host, port = server.split(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = Answer(time.perf_counter())
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        self._selector.register(connection, selectors.EVENT_READ, answer)
        self._open[id(answer)] = connection, answer
        return answer

    def read(self, within: float) -> None:
        """Wait for something, and take all that is there."""
        for key, _ in self._selector.select(within):
            data = key.fileobj.recv(_READ_SIZE)  # type: ignore[union-attr]  # Only sockets are registered.
            now = time.perf_counter()
            answer: Answer = key.data
            answer.body += data
            if not data:
                answer.ended_at = now
                self.leave(answer)
            elif _EVENT.search(data):
                answer.arrivals.append(now)

    def read_until_over(self, within: float) -> None:
        """Read until every stream has ended.

        Raises:
          AssertionError: that took too long, or an answer is none.
        """
        deadline = time.perf_counter() + within
        answers = [answer for _, answer in self._open.values()]
        while self._open:
            left = deadline - time.perf_counter()
            assert left > 0, f"{len(self._open)} streams did not end"
            self.read(left)
        for answer in answers:
            assert answer.body.startswith(b"HTTP/1.1 200"), bytes(answer.body[:1000])
            assert b"[DONE]" in answer.body[-100:], bytes(answer.body[-1000:])

    def leave(self, answer: Answer) -> None:
        """Hang up, in the middle of the answer if it has not ended."""
        connection, _ = self._open.pop(id(answer))
        self._selector.unregister(connection)
        connection.close()

    def close(self) -> None:
        """Hang up on all."""
        for _, answer in list(self._open.values()):
            self.leave(answer)
        self._selector.close()


def ask(url: str, requests: Sequence[Request], *, within: float) -> list[Answer]:
    """The whole answers to `requests`, asked at once."""
    return ask_each([(url, request) for request in requests], within=within)


def ask_each(asked: Sequence[tuple[str, Request]], *, within: float) -> list[Answer]:
    """The whole answers to requests, each of a server of its own, asked at once."""
    conversation = Conversation()
    try:
        answers = [conversation.ask(request, url) for url, request in asked]
        conversation.read_until_over(within)
    finally:
        conversation.close()
    return answers
