"""HTTP to one server: bounded, without surprises from the environment, and with its key out of sight.

No proxies and no `.netrc`, which are for the world outside; no redirects and no cookies, which a server of
ours has no use for; no compression, so that what is counted is what is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx

import node
from node.attached.errors import BadAnswer, Unusable
from node.attached.request_body import Body, encode_body
from node.attached.server_url import ServerUrl
from node.http_pieces import pieces_of

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


class ServerClient:
    """One server's HTTP. A context manager: leaving it closes every connection."""

    def __init__(self, url: ServerUrl, key: str = "") -> None:
        self.url = url
        headers = {"user-agent": f"localai-node/{node.__version__}", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._http = httpx.AsyncClient(
            base_url=url.text,
            headers=headers,
            # How long an answer may take is the request's own business.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT, write=_WRITE_TIMEOUT),
            # Slots bound the connections; what takes none is short.
            # None is kept: a server that closes it in the moment we use it would fail that request, and
            # opening one takes a tenth of a millisecond here.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

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
            f"no server answers at {url} ({_reason(error)}); start it, or check --backend"
        ) from error
    except httpx.HTTPError as error:
        raise BadAnswer(f"the connection to it broke ({_reason(error)})") from error


def _reason(error: httpx.HTTPError) -> str:
    # Some have no words, timeouts above all.
    return str(error) or type(error).__name__
