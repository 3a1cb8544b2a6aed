"""Where a server is: what `--backend` takes.

    http://127.0.0.1:11434        http://127.0.0.1:8000/v1        https://box.lan/llm

The `/v1` that clients are told to write may be left out. A name and a password have no place in it:
it is shown in `status`, and a key has a flag of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from node.host_name import is_host

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 (compared, not bound)
_PORTS = {"http": 80, "https": 443}
_LENGTH_MAX = 200
"""Characters: it stands in a model's record, which has to stay small."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """The root of a server's paths, without a slash at its end."""

    text: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """The URL in `text`.

        Raises:
          ValueError: it is none that a server could be at; says why, for a person.
        """
        if "://" not in text:
            raise ValueError(f"{text!r} has no scheme; write http://{text or '127.0.0.1:11434'}")
        if len(text) > _LENGTH_MAX or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"a URL is at most {_LENGTH_MAX} printable ASCII characters")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{text!r} is not a URL: {error}") from None
        if parts.username is not None or parts.password is not None:
            # Without the URL: what is told here may end up in a log.
            raise ValueError("a name or password does not belong into the URL; use --backend-key for a key")
        if parts.scheme not in _PORTS or not host or port == 0:
            raise ValueError(f"{text!r} is not a URL like http://127.0.0.1:11434")
        if not is_host(host):
            raise ValueError(f"{host!r} is no name or address of a machine")
        if parts.query or parts.fragment:
            raise ValueError(f"{text!r} has a query or a fragment, which no path can be put behind")
        path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(f"{parts.scheme}://{parts.netloc}{path}", host.lower(), port or _PORTS[parts.scheme])

    def leads_to(self, host: str, port: int) -> bool:
        """Whether who listens on `host` and `port` of this machine is who answers here."""
        if self.port != port:
            return False
        is_here = self.host in _LOOPBACK
        return self.host == host.lower() or (is_here and (host.lower() in _LOOPBACK | _EVERYWHERE))
