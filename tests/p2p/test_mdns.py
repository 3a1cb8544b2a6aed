"""What is said of us on the LAN, and what is believed of others. Nothing is sent here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.identity import Identity
from p2p.mdns import addresses_untrusted, service_info
from p2p.peer import PeerAddress
from p2p.secret import derive_mdns_service_name

ME = Identity(bytes(32)).peer_id
ADDRESSES = [
    PeerAddress(ME, "/ip4/192.168.1.7/tcp/4747"),
    PeerAddress(ME, "/ip6/fd00:1111:2222:3333:4444:5555:6666:7777/tcp/65535"),
]
SERVICE = f"_{derive_mdns_service_name(bytes(16))}._tcp.local."


def test_what_we_announce_is_what_others_read() -> None:
    info = service_info(SERVICE, ME, ADDRESSES)
    assert info.name == f"{ME}.{SERVICE}"
    assert info.port == 4747
    assert info.parsed_addresses() == ["192.168.1.7", "fd00:1111:2222:3333:4444:5555:6666:7777"]
    assert addresses_untrusted(info.properties) == ADDRESSES


def test_only_dialable_addresses_of_peers_are_believed() -> None:
    good = str(ADDRESSES[0]).encode()
    assert addresses_untrusted(
        {b"0": good, b"1": None, b"2": b"\xff", b"3": b"/ip4/1.2.3.4/udp/1/p2p/" + ME.encode()}
    ) == [ADDRESSES[0]]


def test_a_neighbour_with_a_thousand_addresses_is_believed_eight() -> None:
    properties: dict[bytes, bytes | None] = {str(n).encode(): str(ADDRESSES[0]).encode() for n in range(1000)}
    assert len(addresses_untrusted(properties)) == 8


@given(st.dictionaries(st.sampled_from([b"0", b"1", b"7"]), st.binary(max_size=255) | st.none()))
def test_any_announcement_is_survived(properties: dict[bytes, bytes | None]) -> None:
    addresses_untrusted(properties)
