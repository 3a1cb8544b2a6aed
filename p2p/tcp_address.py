"""Multiaddrs of TCP endpoints: `/ip4/192.168.1.7/tcp/4747` and its like, read and written."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from p2p.errors import BadAddress

_HOST_KINDS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")
_PORT_MAX: Final = 65535


def tcp_endpoint(multiaddr: str) -> tuple[str, int]:
    """Host (an IP address, or a name) and port of `multiaddr`.

    Raises:
      BadAddress: it is not a TCP multiaddr, or says more than host and port.
    """
    match multiaddr.split("/"):
        case ["", kind, host, "tcp", port] if kind in _HOST_KINDS and host and port.isdecimal():
            if int(port) <= _PORT_MAX and (kind.startswith("dns") or _is_ip(host, version=int(kind[2]))):
                return host, int(port)
    raise BadAddress(f"{multiaddr!r} is not a multiaddr like /ip4/192.168.1.7/tcp/4747")


def tcp_multiaddr(host: str, port: int) -> str:
    """The multiaddr of an IP address and a port."""
    return f"/ip{ip_address(host).version}/{host}/tcp/{port}"


def _is_ip(host: str, *, version: int) -> bool:
    try:
        return ip_address(host).version == version
    except ValueError:
        return False
