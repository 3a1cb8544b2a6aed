"""TCP multiaddrs, and the addresses this machine says it can be reached at."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from p2p.errors import BadAddress
from p2p.interfaces import concrete_multiaddrs, own_addresses
from p2p.tcp_address import tcp_endpoint, tcp_multiaddr


@pytest.mark.parametrize(
    ("multiaddr", "endpoint"),
    [
        ("/ip4/192.168.1.7/tcp/4747", ("192.168.1.7", 4747)),
        ("/ip6/fd00::7/tcp/0", ("fd00::7", 0)),
        ("/dns4/attic.local/tcp/1", ("attic.local", 1)),
        ("/dns/attic/tcp/65535", ("attic", 65535)),
    ],
)
def test_host_and_port_are_read(multiaddr: str, endpoint: tuple[str, int]) -> None:
    assert tcp_endpoint(multiaddr) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.168.1.7:4747",
        "/ip4/192.168.1.7",
        "/ip4/192.168.1.7/udp/4747",
        "/ip4/192.168.1.7/tcp/4747/ws",
        "/ip4/192.168.1.7/tcp/65536",
        "/ip4/192.168.1.7/tcp/-1",
        "/ip4/192.168.1.7/tcp/٣",
        "/ip4/192.168.1/tcp/1",
        "/ip4/fd00::7/tcp/1",
        "/ip6/192.168.1.7/tcp/1",
        "/ip4//tcp/1",
        "/ip6/fe80::1%eth0/udp/1",
        "/dns//tcp/1",
        "/dns/a..b/tcp/1",
        "/dns/two words/tcp/1",
        "/dns/" + 64 * "a" + "/tcp/1",
        "/dns/" + 127 * "a." + "a/tcp/1",
        "/unix/run/tcp/1",
    ],
)
def test_anything_else_is_a_bad_address(text: str) -> None:
    with pytest.raises(BadAddress):
        tcp_endpoint(text)


def test_what_is_written_can_be_read() -> None:
    for host in ("10.0.0.1", "fd00::1"):
        assert tcp_endpoint(tcp_multiaddr(host, 4747)) == (host, 4747)


def test_a_wildcard_becomes_concrete_addresses_with_loopback_last() -> None:
    multiaddrs = concrete_multiaddrs([("0.0.0.0", 4747)])
    hosts = [ip_address(tcp_endpoint(multiaddr)[0]) for multiaddr in multiaddrs]
    assert hosts
    assert all(host.version == 4 and not host.is_unspecified for host in hosts)
    assert [host.is_loopback for host in hosts] == sorted(host.is_loopback for host in hosts)


def test_a_concrete_address_stays_as_it_is() -> None:
    assert concrete_multiaddrs([("127.0.0.1", 1), ("10.1.2.3", 2)]) == [
        "/ip4/10.1.2.3/tcp/2",
        "/ip4/127.0.0.1/tcp/1",
    ]


def test_addresses_that_need_an_interface_of_the_diallers_are_left_out() -> None:
    assert not any(address.is_link_local for address in own_addresses())
