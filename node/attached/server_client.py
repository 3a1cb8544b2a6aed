"""HTTP to one server: bounded, without surprises from the environment, and with its key out of sight.

No proxies, which are for the world outside, and no redirects, which a server of ours has no use for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from node.attached.errors import BadAnswer, Unusable
from node.attached.request_body import Body, encode_body
from node.attached.server_url import ServerUrl
from node.http_client import HttpClient, pieces_of, reason_of

CONNECT_TIMEOUT = 5.0
"""Seconds. It is on this machine or in this house; beyond that nobody is there."""

_WRITE_TIMEOUT = 30.0
"""Seconds for a piece of a request to be taken. One is megabytes at most."""

BODY_SIZE_MAX = 16 * 1024 * 1024
"""Bytes of an answer that comes whole: three times the largest of one question (`request_body.py`)."""

_ERROR_SIZE_MAX = 64 * 1024
"""Bytes of an error that are read; the rest of a longer one says nothing more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that came whole."""

    status: int
    body: bytes


class ServerClient(HttpClient):
    """One server's HTTP."""

    def __init__(self, url: ServerUrl, key: str = "") -> None:
        self.url = url
        super().__init__(
            base_url=url.text,
            headers={"authorization": f"Bearer {key}"} if key else {},
            # How long an answer may take is the request's own business.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT, write=_WRITE_TIMEOUT),
            trusts_environment=False,
        )

    async def ask(self, path: str, body: Body | None = None) -> Reply:
        """GET `path`, or POST `body` to it. Cancelled: the connection is closed.

        Raises:
          Unusable: nobody answers there.
          BadAnswer: the answer broke off, or has no end.
        """
        async with self.open(path, body) as response:
            return Reply(response.status_code, await read_whole(response))

    @asynccontextmanager
    async def open(self, path: str, body: Body | None = None) -> AsyncIterator[httpx.Response]:
        """The same, with the body of the answer still to be read. Leaving closes the connection."""
        content = None if body is None else encode_body(body)
        headers = {} if body is None else {"content-type": "application/json"}
        method = "GET" if body is None else "POST"
        with _faults(self.url):
            async with self._http.stream(method, path, content=content, headers=headers) as response:
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise BadAnswer("it compressed its answer, which it was asked not to")
                yield response


async def read_whole(response: httpx.Response) -> bytes:
    """The body of `response`.

    Raises:
      BadAnswer: it has no end.
    """
    body = bytearray()
    async with pieces_of(response) as pieces:
        async for piece in pieces:
            body += piece
            if response.status_code >= httpx.codes.BAD_REQUEST and len(body) >= _ERROR_SIZE_MAX:
                break
            if len(body) > BODY_SIZE_MAX:
                raise BadAnswer(f"its answer has more than {BODY_SIZE_MAX} bytes")
    return bytes(body)


@contextmanager
def _faults(url: ServerUrl) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unusable(
            f"no server answers at {url} ({reason_of(error)}); start it, or check --backend"
        ) from error
    except httpx.HTTPError as error:
        raise BadAnswer(f"the connection to it broke ({reason_of(error)})") from error
