"""Who may ask: pure rules over the headers of a request.

With keys, a key decides. Without keys, everything that can open a connection to us
may ask, except web pages: a page in the browser of this machine can reach loopback
too, and must not be able to spend its compute or read its answers. Three rules keep
pages out, and each stops what the others let through:

    Host     only our own: a page that rebinds its DNS name to 127.0.0.1 still sends its name
    Origin   only ours, and not from another site: a page that names 127.0.0.1 sends its origin
    JSON     bodies only as `application/json`: a form or a `no-cors` fetch cannot send that

A browser sends cookies by itself, so a key in a cookie proves who the browser is and
not that its person wants this: the second rule holds for it as well.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import cookie_parser

from api.errors import HttpError, UnsafeBinding
from api.settings import ApiSettings

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""No key needed: supervisors and load balancers have none, and nothing here is worth one."""

_KEY_HEADERS = ("x-api-key", "xi-api-key")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def require_safe_binding(host: str, keys: Sequence[str], *, allow_unauthenticated: bool) -> None:
    """Nothing, if it is safe to listen on `host` with `keys`.

    Raises:
      UnsafeBinding: others could reach it, it has no key, and nobody said that this is meant.
    """
    if keys or allow_unauthenticated or _is_loopback(host):
        return
    raise UnsafeBinding(
        f"listening on {host} without an API key would let everybody who can reach it use this swarm; "
        "give --api-key KEY, or --allow-unauthenticated if that is meant"
    )


def check_access(path: str, headers: Mapping[str, str], settings: ApiSettings) -> None:
    """Nothing, if this request may be served.

    Args:
      headers: By lower-case name.

    Raises:
      HttpError: 401 without a good key, 403 for a web page.
    """
    if settings.api_keys:
        if path in OPEN_PATHS or _has_key(_explicit_keys(headers), settings.api_keys):
            return
        if not _has_key([cookie_parser(headers.get("cookie", "")).get("token", "")], settings.api_keys):
            raise HttpError(
                401, "this node wants an API key, and none or a wrong one came", code="invalid_api_key"
            )
    elif not _is_our_host(headers.get("host", ""), settings):
        raise HttpError(
            403,
            f"{headers.get('host', '')!r} is not a name of this node; call it by its address",
            code="foreign_host",
        )
    _check_same_origin(headers)


def check_content_type(headers: Mapping[str, str]) -> None:
    """Nothing, if there is no body or it says that it is JSON, as it is.

    Raises:
      HttpError: 415.
    """
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type != "application/json":
        raise HttpError(
            415, "the body must be sent with `Content-Type: application/json`", code="unsupported_media_type"
        )
    # What a few kilobytes unpack to has no bound, and no client in use packs what it asks.
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise HttpError(
            415, "the body must be sent as it is, without `Content-Encoding`", code="unsupported_media_type"
        )


def offered_key(headers: Mapping[str, str]) -> str:
    """The key that these headers show, right or not; empty: none."""
    cookie = cookie_parser(headers.get("cookie", "")).get("token", "")
    return next(filter(None, [*_explicit_keys(headers), cookie]), "")


def _explicit_keys(headers: Mapping[str, str]) -> list[str]:
    """Keys that somebody meant to send: a browser adds none of these by itself."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    keys = [headers.get(name, "") for name in _KEY_HEADERS]
    return [bearer.strip(), *keys] if scheme.lower() == "bearer" else keys


def _has_key(offered: Sequence[str], keys: Sequence[str]) -> bool:
    # Every pair is compared, and each in constant time, so the time taken tells nothing about the keys.
    # Headers are read as Latin-1, so that is what turns an offer back into the bytes that came.
    matches = [
        hmac.compare_digest(one.encode("latin-1", "replace"), key.encode())
        for one in offered
        for key in keys
        if one and key
    ]
    return any(matches)


def _check_same_origin(headers: Mapping[str, str]) -> None:
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        raise HttpError(403, f"web pages of {origin} may not use this node", code="foreign_origin")
    # Browsers that send no Origin with a GET say at least this; programs send neither.
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HttpError(403, "web pages of other sites may not use this node", code="foreign_origin")


def _is_our_host(header: str, settings: ApiSettings) -> bool:
    host = _host_of(header)
    if host in _LOOPBACK_NAMES or host == settings.bind_host.lower():
        return True
    # No other name leads to loopback honestly: a machine's own may come from whoever runs its network.
    if _is_loopback(settings.bind_host):
        return False
    # Listening everywhere: any address of ours is fine, because rebinding needs a name.
    everywhere = _is_address(settings.bind_host) and ip_address(settings.bind_host).is_unspecified
    return (everywhere and _is_address(host)) or host in map(str.lower, settings.allowed_hosts)


def _host_of(header: str) -> str:
    """The host in a Host header, without its port and brackets."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
