"""Neighbours: members of our swarm on this LAN, found by multicast DNS (DNS-SD).

    service    _<name derived from the secret>._tcp.local.     so other swarms are never seen
    instance   the peer id
    TXT        0=/ip4/192.168.1.7/tcp/4747/p2p/12D3KooW...     one per address, best first

A neighbour that is heard is only an address to dial: whether it belongs to us is proved
by the private network and `hello`, not here.

zeroconf runs in threads of its own, and starting or closing it takes them a second or
two; nothing of it runs in, or blocks, the trio loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from p2p.errors import P2PError
from p2p.peer import PeerAddress, PeerId
from p2p.tcp_address import tcp_endpoint

logger = logging.getLogger(__name__)

_LOOK_EVERY: Final = 30.0
"""Seconds between looks at our own addresses: how long a laptop that changed networks stays unheard."""
_ANSWER_TIME_MAX_MS: Final = 3000
"""A neighbour that was announced answers for its addresses in milliseconds, unless it left meanwhile."""
_ADDRESSES_MAX: Final = 8
"""Announced, and believed of one neighbour. A machine has one or two that matter."""

Found = Callable[[Sequence[PeerAddress]], None]


async def find_members(
    service_name: str,
    me: PeerId,
    own_addresses: Callable[[], Sequence[PeerAddress]],
    on_found: Found,
    *,
    interfaces: Sequence[str] | None = None,
) -> None:
    """Announce us under `service_name` and call `on_found` with each neighbour's addresses.

    Runs until cancelled, and then takes the announcement back. `interfaces` are
    addresses of the interfaces to use instead of all. Without a network it waits for one.
    """
    token = trio.lowlevel.current_trio_token()

    def tell(addresses: Sequence[PeerAddress]) -> None:
        # The loop may be gone between a neighbour's last word and our close.
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(on_found, addresses, trio_token=token)

    neighbourhood = _Neighbourhood(service_name, me, tell)
    try:
        while True:
            announced = _shareable(own_addresses())
            try:
                await trio.to_thread.run_sync(neighbourhood.announce, announced, interfaces)
            except (OSError, ZeroconfError) as error:
                logger.info("cannot look for neighbours now: %s", error)
            await trio.sleep(_LOOK_EVERY)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(neighbourhood.close)


class _Neighbourhood:
    """zeroconf's part. Every method blocks: for a thread."""

    def __init__(self, service_name: str, me: PeerId, on_found: Found) -> None:
        self._type = f"_{service_name}._tcp.local."
        self._me = me
        self._on_found = on_found
        self._zeroconf: Zeroconf | None = None
        self._announced: Sequence[PeerAddress] | None = None

    def announce(self, addresses: Sequence[PeerAddress], interfaces: Sequence[str] | None) -> None:
        """Say that we are at `addresses`, and begin to listen for others.

        Raises:
          OSError, ZeroconfError: there is no network to say it on.
        """
        if addresses == self._announced:
            return
        # Sockets are tied to the interfaces there were: with new addresses come new sockets.
        self.close()
        self._zeroconf = Zeroconf(list(interfaces) if interfaces else InterfaceChoice.All)
        if addresses:
            # A peer id is nobody else's, so there is no need to ask around whether the name is free.
            self._zeroconf.register_service(
                service_info(self._type, self._me, addresses), cooperating_responders=True
            )
        ServiceBrowser(self._zeroconf, self._type, handlers=[self._on_change])
        self._announced = addresses

    def close(self) -> None:
        """Take back what was announced, and stop listening."""
        if self._zeroconf is not None:
            self._zeroconf.close()
        self._zeroconf = self._announced = None

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            return
        info = None
        # A name that no service can have: its sender's fault, which must not end this thread.
        with suppress(ZeroconfError):
            info = zeroconf.get_service_info(service_type, name, timeout=_ANSWER_TIME_MAX_MS)
        addresses = [] if info is None else addresses_untrusted(info.properties)
        found = [address for address in addresses if address.peer != self._me]
        if found:
            self._on_found(found)


def service_info(service_type: str, me: PeerId, addresses: Sequence[PeerAddress]) -> ServiceInfo:
    """The announcement of `me` at `addresses`."""
    endpoints = [tcp_endpoint(address.multiaddr) for address in addresses]
    return ServiceInfo(
        service_type,
        f"{me}.{service_type}",
        # Readers of ours need only the properties, but DNS-SD resolves nothing without host and port.
        port=endpoints[0][1],
        parsed_addresses=list(dict.fromkeys(host for host, _ in endpoints)),
        server=f"{me}.local.",
        properties={str(number): str(address) for number, address in enumerate(addresses)},
    )


def addresses_untrusted(properties: Mapping[bytes, bytes | None]) -> list[PeerAddress]:
    """The addresses in an announcement's TXT properties, in their order; what makes no sense is left out."""
    addresses = []
    for number in range(_ADDRESSES_MAX):
        text = properties.get(str(number).encode()) or b""
        with suppress(P2PError):
            address = PeerAddress.parse(text.decode("ascii", "replace"))
            tcp_endpoint(address.multiaddr)
            addresses.append(address)
    return addresses


def _shareable(addresses: Sequence[PeerAddress]) -> list[PeerAddress]:
    """Those of our addresses that mean something to others."""
    return [
        address for address in addresses if not ip_address(tcp_endpoint(address.multiaddr)[0]).is_loopback
    ][:_ADDRESSES_MAX]
