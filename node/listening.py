"""Which addresses to listen on, in the order to try them. Pure.

A port once chosen is kept, because it stands in tokens that people pasted. What was
asked for by a flag is tried as it is and nothing else; without a flag a taken port
only means the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

PORT_DEFAULT: Final = 4747
_PORTS_TRIED: Final = 20
"""As many nodes on one machine as anybody runs by hand; after that any free port will do."""


def listen_attempts(asked: Sequence[str], kept: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Sets of multiaddrs to listen on, best first. `kept` is what the last run listened on."""
    if asked:
        again = tuple(_with_kept_port(multiaddr, kept) for multiaddr in asked)
        if again != tuple(asked):
            yield again
        yield tuple(asked)
        return
    if kept:
        yield tuple(kept)
    for port in range(PORT_DEFAULT, PORT_DEFAULT + _PORTS_TRIED):
        yield (f"/ip4/0.0.0.0/tcp/{port}",)
    yield ("/ip4/0.0.0.0/tcp/0",)


def _with_kept_port(multiaddr: str, kept: Sequence[str]) -> str:
    """`multiaddr` with the port it got last time, if it asks for any."""
    if multiaddr.endswith("/tcp/0"):
        for known in kept:
            if known.startswith(multiaddr.removesuffix("0")):
                return known
    return multiaddr
