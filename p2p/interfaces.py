"""Where this machine can be reached: its own addresses, the likeliest first.

A node that listens on 0.0.0.0 must never say so: whoever is told dials itself. What is
said are the addresses of the interfaces that are up, in the order a peer should try.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import psutil

from p2p.tcp_address import tcp_multiaddr

_VIRTUAL_PREFIXES: Final = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel")
"""Bridges to containers and virtual machines on this machine: rarely a way for anybody else."""
_OUTSIDE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses reserved for documentation: the route to them is the default route."""


def concrete_multiaddrs(endpoints: Iterable[tuple[str, int]]) -> list[str]:
    """Multiaddrs others can dial to reach sockets bound to `endpoints`, best first, loopback last."""
    own = None
    multiaddrs: dict[str, None] = {}
    for host, port in endpoints:
        bound = ip_address(host)
        if not bound.is_unspecified:
            multiaddrs[tcp_multiaddr(host, port)] = None
            continue
        own = own if own is not None else own_addresses()
        for address in own:
            if address.version == bound.version:
                multiaddrs[tcp_multiaddr(str(address), port)] = None
    return sorted(multiaddrs, key=lambda text: "/127." in text or "/::1/" in text)


def own_addresses() -> list[IPv4Address | IPv6Address]:
    """This machine's addresses, the likeliest way in first, loopback last."""
    is_up = {name: stats.isup for name, stats in psutil.net_if_stats().items()}
    default = {_default_source(family) for family in _OUTSIDE}
    ranked = []
    for name, entries in psutil.net_if_addrs().items():
        if not is_up.get(name, True):
            continue
        for entry in entries:
            if entry.family not in _OUTSIDE:
                continue
            # Link-local addresses mean something only together with an interface of the dialler's.
            address = ip_address(entry.address.partition("%")[0])
            if not address.is_link_local:
                is_virtual = name.startswith(_VIRTUAL_PREFIXES)
                rank = (address.is_loopback, is_virtual, str(address) not in default, address.version)
                ranked.append((rank, str(address), address))
    return [address for _, _, address in sorted(ranked, key=lambda entry: entry[:2])]


def _default_source(family: socket.AddressFamily) -> str | None:
    """The address this machine talks to the outside from. Sends nothing: connecting UDP only routes."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_OUTSIDE[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
