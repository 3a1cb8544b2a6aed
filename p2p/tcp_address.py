"""Multiaddrs of TCP endpoints: `/ip4/192.168.1.7/tcp/4747` and its like, read and written."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from p2p.errors import BadAddress

_PORT_MAX: Final = 65535
_NAME: Final = re.compile(r"(?=.{1,253}\Z)\w(?:[\w-]{0,61}\w)?(?:\.\w(?:[\w-]{0,61}\w)?)*\.?", re.ASCII)
"""Dotted labels of at most 63 characters (RFC 1035), underscores as well: people do name machines so."""


def tcp_endpoint(multiaddr: str) -> tuple[str, int]:
    """Host (an IP address, or a name) and port of `multiaddr`.

    Raises:
      BadAddress: it is not a TCP multiaddr, or says more than host and port.
    """
    match multiaddr.split("/"):
        case ["", kind, host, "tcp", port] if _is_host(kind, host) and _is_port(port):
            return host, int(port)
    raise BadAddress(f"{multiaddr!r} is not a multiaddr like /ip4/192.168.1.7/tcp/4747")


def tcp_multiaddr(host: str, port: int) -> str:
    """The multiaddr of an IP address and a port."""
    return f"/ip{ip_address(host).version}/{host}/tcp/{port}"


def _is_host(kind: str, host: str) -> bool:
    if kind in ("dns", "dns4", "dns6"):
        return _NAME.fullmatch(host) is not None
    try:
        return kind == f"ip{ip_address(host).version}"
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    return len(text) <= 5 and text.isascii() and text.isdecimal() and int(text) <= _PORT_MAX
