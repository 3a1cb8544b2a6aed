"""What the HTTP side of one node is asked to be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Settings of one app; nothing of it is read from anywhere else."""

    version: str
    """Of the program."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Any of these opens the door. Empty: everybody who can reach us, except web pages."""
    bind_host: str = "127.0.0.1"
    """The host we listen on, as it was asked for."""
    allowed_hosts: tuple[str, ...] = ()
    """Names of this machine, such as `desktop.local`, by which others may call it where they can reach it."""
    body_size_max: int = 4_000_000
    """Bytes. Below the 4 MiB of the frame that carries a request to a peer, so that whatever is
    accepted can be sent on. A prompt of 128k tokens is below 1 MB."""
