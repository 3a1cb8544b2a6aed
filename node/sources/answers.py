"""What the head of an HTTP answer means for who wants a file: whether it can be used, and if not, why.
Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from node.sources.errors import (
    NotAtSource,
    RangeRefused,
    SourceBusy,
    SourceError,
    SourceRefused,
    SourceUnavailable,
    TokenNeeded,
)
from node.sources.web_url import WebUrl

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_SECONDS = re.compile(r"\d{1,6}")


@dataclass(frozen=True, slots=True)
class Body:
    """Which bytes of the file an answer brings."""

    start: int
    """The first of them."""
    size_bytes: int | None
    """Of the whole file; None: it does not say."""
    version: str
    """The same as long as the file is; empty: it does not say."""
    is_range: bool
    """It brings what was asked for, not the file from its beginning."""


def refusal(url: WebUrl, status: int, headers: Mapping[str, str], *, had_token: bool) -> SourceError:
    """What an answer with that `status`, which is an error, says: a sentence for a person."""
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN | HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return TokenNeeded(_no_entry(url, status, headers, had_token=had_token))
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            return NotAtSource(f"there is no {url} ({status}); check its name")
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return RangeRefused(f"{url} is shorter than it was, or empty ({status})")
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            seconds = headers.get("retry-after", "").strip()
            wait = float(seconds) if _SECONDS.fullmatch(seconds) else None
            later = f"in {seconds} seconds" if wait is not None else "later"
            return SourceBusy(f"{url.host} is busy ({status}); try again {later}", wait)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_EARLY:
            return SourceUnavailable(f"{url.host} did not wait for our request ({status})")
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return SourceUnavailable(f"{url.host} has a problem of its own ({status}); try again later")
    return SourceRefused(f"{url} is not given: {_phrase(status)} ({status})")


def require_plain(url: WebUrl, headers: Mapping[str, str]) -> None:
    """Return if what comes is what is there: a small answer may become any size once it is unpacked.

    Raises:
      SourceRefused: it is compressed.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise SourceRefused(f"{url} comes compressed ({encoding[:20]}), which it was asked not to")


def read_body(url: WebUrl, status: int, headers: Mapping[str, str], *, asked_from: int) -> Body:
    """Which bytes the answer brings to a question for those from `asked_from` on.

    Raises:
      SourceRefused: it is no file, or not these bytes.
    """
    require_plain(url, headers)
    if headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml")):
        raise SourceRefused(f"{url} is a web page, not a model's file; open it and copy the file's address")
    version = version_of(headers)
    if status == HTTPStatus.PARTIAL_CONTENT:
        match = _RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None or int(match[1]) != asked_from:
            raise SourceRefused(f"{url.host} answers with other bytes of {url} than it was asked for")
        return Body(asked_from, None if match[3] == "*" else int(match[3]), version, is_range=True)
    if status != HTTPStatus.OK:
        raise SourceRefused(f"{url} is not given: {_phrase(status)} ({status})")
    length = headers.get("content-length", "")
    is_length = length.isascii() and length.isdigit() and len(length) < 20
    return Body(0, int(length) if is_length else None, version, is_range=False)


def next_url(url: WebUrl, location: str) -> WebUrl:
    """Where `url` leads to with that `Location`.

    Raises:
      SourceRefused: nowhere one may go.
    """
    try:
        there = url.join(location)
    except ValueError:
        raise SourceRefused(f"{url} leads to what is no URL") from None
    if url.is_secure and not there.is_secure:
        raise SourceRefused(f"{url} leads from https to http, where anybody on the way could change it")
    return there


def version_of(headers: Mapping[str, str]) -> str:
    """The same as long as the file is: a strong ETag, else the time of change, as If-Range takes them; empty:
    they do not say."""
    etag = headers.get("etag", "").strip()
    if etag.startswith('"') and etag.isascii() and len(etag) <= 200:
        return etag
    changed = headers.get("last-modified", "").strip()[:40]
    return changed if changed.isascii() else ""


def _no_entry(url: WebUrl, status: int, headers: Mapping[str, str], *, had_token: bool) -> str:
    match headers.get("x-error-code", ""):
        case "GatedRepo":
            return (
                f"{url} is for those who accepted its terms ({status}): accept them on its page,"
                " and put your token in HF_TOKEN"
            )
        case "RepoNotFound":
            return (
                f"there is no {url}, or only for those it was shared with ({status}):"
                " check its name, or set HF_TOKEN"
            )
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return (
            f"the proxy on the way to {url.host} wants a name and a password ({status}):"
            " put them into HTTPS_PROXY"
        )
    if had_token:
        return f"{url} is not given to the holder of this token ({status}): renew it, or ask for access"
    return (
        f"{url} needs a token or a password ({status}): for Hugging Face put your token in HF_TOKEN,"
        " elsewhere write https://NAME:PASSWORD@HOST/..."
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an answer that has no meaning"
