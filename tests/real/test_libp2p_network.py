"""The network on sockets: listening, and bearing what connects to an open port."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address

import pytest
import trio

from p2p.errors import BadAddress, ListenFailed, Unreachable
from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.network import Connected
from p2p.peer import PeerAddress
from p2p.tcp_address import tcp_endpoint

pytestmark = pytest.mark.real

PSK = bytes(range(32))
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
LINGER_FORMAT = "hh" if sys.platform == "win32" else "ii"


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            await test()

    trio.run(main)


def test_a_wildcard_is_never_what_others_are_told() -> None:
    async def test() -> None:
        async with Libp2pNetwork.open(ALICE, PSK, listen=["/ip4/0.0.0.0/tcp/0"]) as network:
            hosts = [ip_address(tcp_endpoint(address.multiaddr)[0]) for address in network.listen_addresses]
            assert hosts
            assert not any(host.is_unspecified for host in hosts)
            # And it is true what they are told.
            async with Libp2pNetwork.open(BOB, PSK) as other:
                await other.dial(network.listen_addresses[-1])

    run(test)


def test_a_taken_port_is_a_clear_failure_and_nothing_stays_open() -> None:
    async def test() -> None:
        async with Libp2pNetwork.open(ALICE, PSK, listen=[LOOPBACK]) as network:
            taken = network.listen_addresses[0].multiaddr
            with pytest.raises(ListenFailed, match=taken):
                async with Libp2pNetwork.open(BOB, PSK, listen=[taken]):
                    pass
            async with Libp2pNetwork.open(BOB, PSK, listen=[taken, LOOPBACK]) as other:
                assert len(other.listen_addresses) == 1
        # Its port is free again as soon as it is closed.
        async with Libp2pNetwork.open(ALICE, PSK, listen=[taken]) as again:
            assert again.listen_addresses[0].multiaddr == taken

    run(test)


def test_an_address_that_is_none_is_refused() -> None:
    async def test() -> None:
        with pytest.raises(BadAddress):
            async with Libp2pNetwork.open(ALICE, PSK, listen=["127.0.0.1:4747"]):
                pass

    run(test)


def test_strangers_come_and_go_and_members_still_get_in() -> None:
    async def test() -> None:
        async with Libp2pNetwork.open(ALICE, PSK, listen=[LOOPBACK]) as network:
            host, port = tcp_endpoint(network.listen_addresses[0].multiaddr)
            # A port scan, a web browser, somebody who says nothing, and one who hangs up hard.
            await (await trio.open_tcp_stream(host, port)).aclose()
            browser = await trio.open_tcp_stream(host, port)
            await browser.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
            silent = await trio.open_tcp_stream(host, port)
            rude = await trio.open_tcp_stream(host, port)
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(LINGER_FORMAT, 1, 0))
            await rude.aclose()
            async with Libp2pNetwork.open(BOB, PSK) as other:
                await other.dial(network.listen_addresses[0])
                event = await network.events.receive()
                assert isinstance(event, Connected)
                assert event.peer == other.me
            await browser.aclose()
            await silent.aclose()

    run(test)


def test_strangers_who_say_nothing_keep_no_member_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.libp2p_network._HANDSHAKES_MAX", 2)

    async def test() -> None:
        async with (
            Libp2pNetwork.open(ALICE, PSK, listen=[LOOPBACK]) as network,
            Libp2pNetwork.open(BOB, PSK) as member,
        ):
            host, port = tcp_endpoint(network.listen_addresses[0].multiaddr)
            silent = [await trio.open_tcp_stream(host, port) for _ in range(5)]
            await member.dial(network.listen_addresses[0])
            for stream in silent[:-1]:
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
            for stream in silent:
                await stream.aclose()

    run(test)


def test_a_dial_of_somebody_who_never_answers_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2p.libp2p_network.DIAL_TIME_MAX", 0.2)

    async def test() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener, Libp2pNetwork.open(ALICE, PSK) as network:
            port = listener.socket.getsockname()[1]
            address = f"/ip4/127.0.0.1/tcp/{port}"
            with pytest.raises(Unreachable, match="did not answer"):
                await network.dial(PeerAddress(BOB.peer_id, address))

    run(test)


def test_who_dials_us_under_our_own_id_is_not_let_in(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with (
            Libp2pNetwork.open(ALICE, PSK, listen=[LOOPBACK]) as network,
            Libp2pNetwork.open(ALICE, PSK) as copy,
        ):
            with pytest.raises(Unreachable):
                await copy.dial(network.listen_addresses[0])
            # Past its own refusal too.
            transport = await copy._connect(network.listen_addresses[0])
            with pytest.raises(trio.BrokenResourceError):
                await transport.receive_some(1)
            await transport.aclose()

    run(test)
    assert "under our own peer id" in caplog.text
