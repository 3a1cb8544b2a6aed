"""The protocol that tests of connections speak: what is sent comes back."""

from __future__ import annotations

from p2p.network import PeerStream

ECHO = "/echo/1"


async def echo(stream: PeerStream) -> None:
    """Answer one stream, to its end."""
    while data := await stream.receive_some():
        await stream.send_all(data)
