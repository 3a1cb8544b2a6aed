"""What every HTTP client of this program has in common.

No cookies, and no redirects on its own: where one leads is for each client to decide. No compression, so that
what is counted is what is kept. No connection is kept: one that its server closes in the moment we use it
would fail that request.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx
import trio

import node
from node.errors import WrongUse

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name whose certificates are trusted."""


class HttpClient:
    """A context manager: leaving it closes every connection."""

    def __init__(
        self,
        *,
        timeout: httpx.Timeout,
        trusts_environment: bool,
        base_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`trusts_environment`: its proxies and its certificates, as it names them now.

        Raises:
          WrongUse: it names no certificates that can be read.
        """
        named = tuple(os.environ.get(name, "") for name in _CERTIFICATES) if trusts_environment else ()
        try:
            tls = _tls(named)
        except OSError as error:
            raise WrongUse(
                f"SSL_CERT_FILE or SSL_CERT_DIR names no certificates that can be read ({error})"
            ) from error
        common = {"user-agent": f"localai-node/{node.__version__}", "accept-encoding": "identity"}
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={**common, **(headers or {})},
            timeout=timeout,
            verify=tls,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=trusts_environment,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)


@cache
def _tls(certificates: tuple[str, ...]) -> ssl.SSLContext:
    """What every client with the same `certificates` uses: to read the usual ones takes 25 ms, in which
    nothing else goes on, and every order opens a client, though most models come from peers."""
    return httpx.create_ssl_context(trust_env=bool(certificates))


@asynccontextmanager
async def pieces_of(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body of `response` as it comes; it may be left before its end."""
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        # httpx reads through generators within generators, which closing the outermost leaves to the garbage
        # collector. Only an exception from within ends them all, and being cancelled is one.
        with trio.CancelScope() as scope, suppress(httpx.HTTPError):
            scope.cancel()
            async for _ in pieces:
                pass


def reason_of(error: httpx.HTTPError) -> str:
    """What it says, or what it is: some have no words, timeouts above all."""
    return str(error) or type(error).__name__
