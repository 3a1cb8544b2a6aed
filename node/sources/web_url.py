"""A URL that may hold secrets, and the ways to speak of it without them.

A password stands before the `@`, and a signature or a token often behind the `?`. `text` is what is sent;
`shown` is for people and logs, `canonical` for comparing: of what stands behind the `?`, which may decide
which file it is, only a hash is in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit, urlunsplit

from node.host_name import is_host

_PORTS = {"http": 80, "https": 443}
_LENGTH_MAX = 4096
"""Characters. Signed URLs of object stores have up to 2,000."""


@dataclass(frozen=True, slots=True)
class WebUrl:
    """An http or https URL. Without what stands behind a `#`, which is never sent."""

    text: str = field(repr=False)
    """With its secrets."""
    shown: str

    def __str__(self) -> str:
        return self.shown

    @classmethod
    def parse(cls, text: str) -> WebUrl:
        """The URL in `text`.

        Raises:
          ValueError: it is none; says why, for a person, and repeats nothing of it that may be secret.
        """
        if len(text) > _LENGTH_MAX or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(
                f"a URL is at most {_LENGTH_MAX} printable ASCII characters without spaces;"
                " write others as %20"
            )
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("what was given is not a URL: its host or port cannot be read") from None
        if parts.scheme not in _PORTS or not host or port == 0:
            raise ValueError("what was given is not a URL like https://example.com/model.gguf")
        if not is_host(host):
            raise ValueError(f"{host!r} is no name or address of a machine")
        netloc = f"[{host}]" if ":" in host else host
        if port is not None and port != _PORTS[parts.scheme]:
            netloc += f":{port}"
        user, at, _ = parts.netloc.rpartition("@")
        path = parts.path or "/"
        return cls(
            urlunsplit((parts.scheme, f"{user}{at}{netloc}", path, parts.query, "")),
            f"{parts.scheme}://{netloc}{path}",
        )

    @property
    def canonical(self) -> str:
        """The same for all who mean the same, whoever they are."""
        query = urlsplit(self.text).query
        return f"{self.shown}?{hashlib.sha256(query.encode()).hexdigest()}" if query else self.shown

    @property
    def origin(self) -> str:
        """Scheme, host and port: who a secret is for."""
        parts = urlsplit(self.shown)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def host(self) -> str:
        return urlsplit(self.shown).netloc

    @property
    def is_secure(self) -> bool:
        return self.shown.startswith("https:")

    def join(self, location: str) -> WebUrl:
        """Where `location`, relative or not, leads from here. A password goes along within one origin only.

        Raises:
          ValueError: nowhere.
        """
        there = WebUrl.parse(urljoin(self.shown, location))
        user = urlsplit(self.text).netloc.rpartition("@")[0]
        if not user or there.origin != self.origin or "@" in urlsplit(there.text).netloc:
            return there
        scheme, rest = there.text.split("://", 1)
        return WebUrl(f"{scheme}://{user}@{rest}", there.shown)
