"""HTTP to sources in the world outside: bounded, through its proxies, and with secrets where they belong
only.

Redirects are followed a few times, never from https to http, and a token goes to the origin it is for and to
no other. Proxies are read from the environment by httpx, at the time of opening.

`open` hands out an answer whose body is still to be read; `read` a small one as a whole.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import trio

from node.errors import WrongUse
from node.host_name import is_host
from node.http_client import HttpClient, pieces_of, reason_of
from node.sources.answers import next_url, refusal, require_plain
from node.sources.errors import SourceRefused, SourceUnavailable
from node.sources.source_files import Location
from node.sources.web_url import WebUrl

CONNECT_TIMEOUT = 15.0
"""Seconds, for one machine at the other end of the world behind a slow line."""
SILENCE_MAX = 30.0
"""Seconds without a byte. Stores that fetch a file from a slower one of theirs first take up to ten."""
ANSWER_TIME_MAX = 300.0
"""Seconds for a document, or the head of a file: the largest has 16 MiB, and 60 KB/s carry that. Who sends a
byte now and then is never silent, and would keep an order for ever."""

_PROXIES = frozenset({"http", "https", "all"})
"""Schemes that httpx looks for proxies for."""
_REDIRECTS_MAX = 8
"""Hugging Face takes two, a mirror before it one more."""


@dataclass(frozen=True, slots=True)
class Document:
    """A small answer, as a whole."""

    body: bytes
    headers: Mapping[str, str]
    """Their names in small letters."""
    is_unchanged: bool = False
    """304: what the asker has is what there is, and `body` is empty."""


class SourceClient(HttpClient):
    """HTTP for one download, or a few."""

    def __init__(self, *, silence_max: float = SILENCE_MAX) -> None:
        self._silence_max = silence_max
        _check_proxies()
        timeout = httpx.Timeout(silence_max, connect=CONNECT_TIMEOUT, pool=None)
        try:
            super().__init__(timeout=timeout, trusts_environment=True)
        except httpx.InvalidURL as error:
            raise WrongUse(
                "NO_PROXY is not a list of hosts like localhost,example.org,::1 (without brackets)"
            ) from error

    @asynccontextmanager
    async def open(
        self, location: Location, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """GET `location`: an answer that is no error, its body still to be read. Leaving closes the
        connection.

        Raises:
          SourceRefused: it is an error, or leads nowhere one may go.
          SourceUnavailable: nobody answers, or it broke off, before or while the body is read.
        """
        with self._faults():
            response = await self._follow("GET", location, headers or {}, is_final=_is_no_redirect)
            try:
                if response.status_code >= httpx.codes.BAD_REQUEST:
                    raise _refusal(location, response)
                yield response
            finally:
                await response.aclose()

    async def headers(self, location: Location, wanted: str = "") -> Mapping[str, str]:
        """The headers of the first answer on the way to `location` that has the one called `wanted`, or of
        the last; their names in small letters.

        Raises:
          SourceRefused, SourceUnavailable: as `open`.
        """
        with self._faults():
            response = await self._follow(
                "HEAD",
                location,
                {},
                is_final=lambda answer: (
                    (bool(wanted) and wanted in answer.headers) or _is_no_redirect(answer)
                ),
            )
            await response.aclose()
            if response.status_code >= httpx.codes.BAD_REQUEST:
                raise _refusal(location, response)
            return dict(response.headers)

    async def read(
        self, location: Location, *, size_max: int, headers: Mapping[str, str] | None = None
    ) -> Document:
        """The whole of what is at `location`, at most `size_max` bytes.

        Raises:
          SourceRefused, SourceUnavailable: as `open`.
        """
        with _in_time(location.url):
            async with self.open(location, headers) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED:
                    return Document(b"", dict(response.headers), is_unchanged=True)
                if not response.is_success:
                    raise SourceRefused(f"{location.url} is not given ({response.status_code})")
                require_plain(location.url, response.headers)
                body = bytearray()
                async with pieces_of(response) as pieces:
                    async for piece in pieces:
                        body += piece
                        if len(body) > size_max:
                            raise SourceRefused(f"{location.url} is larger than {size_max} bytes")
                return Document(bytes(body), dict(response.headers))

    async def _follow(
        self,
        method: str,
        location: Location,
        headers: Mapping[str, str],
        *,
        is_final: Callable[[httpx.Response], bool],
    ) -> httpx.Response:
        """The first answer on the way from `location` that is final; the caller closes it."""
        url = location.url
        for _ in range(_REDIRECTS_MAX + 1):
            _require_askable(url)
            own = {"authorization": f"Bearer {location.token}"} if _is_for(location, url) else {}
            request = self._http.build_request(method, url.text, headers={**headers, **own})
            with _in_time(url):
                response = await self._send(request, url)
            if is_final(response):
                return response
            await response.aclose()
            url = next_url(url, response.headers["location"])
        raise SourceRefused(f"{location.url} leads on and on: more than {_REDIRECTS_MAX} redirects")

    async def _send(self, request: httpx.Request, url: WebUrl) -> httpx.Response:
        try:
            return await self._http.send(request, stream=True)
        except (httpx.RemoteProtocolError, UnicodeError) as error:
            # httpx looks at where an answer leads though it is not to go there.
            if isinstance(error, UnicodeError) or "location header" in str(error):
                raise SourceRefused(f"{url} leads to what is no URL") from None
            raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """httpx's errors as ours. They name who was asked last: a store may be out of reach that a source
        leads to."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            host = _host_of(error)
            if _is_about_certificates(error):
                raise SourceRefused(
                    f"{host} does not prove that it is {host}; if a proxy of yours is in between,"
                    " name its certificate in SSL_CERT_FILE"
                ) from error
            raise SourceUnavailable(
                f"nobody answers at {host} ({reason_of(error)}); {_what_to_check()}"
            ) from error
        except httpx.ProxyError as error:
            raise SourceUnavailable(
                f"the proxy on the way to {_host_of(error)} does not let us through"
                f" ({reason_of(error)[:80]}); check HTTPS_PROXY, or name that host in NO_PROXY"
            ) from error
        except httpx.TimeoutException as error:
            raise SourceUnavailable(
                f"{_host_of(error)} sent nothing for {self._silence_max:g} seconds"
            ) from error
        except httpx.HTTPError as error:
            raise SourceUnavailable(
                f"the connection to {_host_of(error)} broke ({reason_of(error)})"
            ) from error


@contextmanager
def _in_time(url: WebUrl) -> Iterator[None]:
    with trio.move_on_after(ANSWER_TIME_MAX) as patience:
        yield
    if patience.cancelled_caught:
        raise SourceUnavailable(
            f"{url} has not come after {ANSWER_TIME_MAX:g} seconds: it is sent too slowly"
        )


def _require_askable(url: WebUrl) -> None:
    """Return if httpx knows what to make of it: it looks at more than we do, such as what a name in another
    script stands for.

    Raises:
      SourceRefused: it does not.
    """
    try:
        _ = httpx.URL(url.text).host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise SourceRefused(f"{url} is no address that can be asked") from error


def _host_of(error: httpx.HTTPError) -> str:
    return error.request.url.netloc.decode()


def _what_to_check() -> str:
    if _PROXIES & getproxies().keys():
        return "is there a network, and does the proxy run that HTTPS_PROXY or HTTP_PROXY names?"
    return "is there a network?"


def _check_proxies() -> None:
    """httpx and what is below it raise anything at all for what is no proxy, some of it only when used."""
    for scheme, text in getproxies().items():
        if scheme not in _PROXIES:
            continue
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            is_proxy = parts.scheme in ("http", "https") and is_host(parts.hostname or "")
            is_proxy = is_proxy and parts.port != 0
        except ValueError:
            is_proxy = False
        if not is_proxy:
            raise WrongUse(f"{scheme.upper()}_PROXY is not a proxy like http://HOST:PORT")


def _is_about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_no_redirect(response: httpx.Response) -> bool:
    return not response.has_redirect_location


def _is_for(location: Location, url: WebUrl) -> bool:
    return bool(location.token) and url.origin == location.url.origin


def _refusal(location: Location, response: httpx.Response) -> Exception:
    return refusal(location.url, response.status_code, response.headers, had_token=bool(location.token))
