"""What every network promises. Each claim is tried in memory and on sockets."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2p.connection_table import ConnectionTable, Link, Placement
from p2p.errors import ProtocolNotSpoken, Unreachable
from p2p.identity import Identity
from p2p.muxed_network import MuxedNetwork
from p2p.network import Connected, Disconnected, PeerStream, Rerouted
from p2p.peer import PeerAddress, PeerId
from p2p.yamux_stream import YamuxStream
from tests.contract.conftest import OTHER_SECRET, Claim, World
from tests.echo import ECHO, echo

SMALLER, LARGER = sorted((Identity(bytes([n]) * 32) for n in (1, 2)), key=lambda identity: identity.peer_id)


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while piece := await stream.receive_some():
        data += piece
    return data


@asynccontextmanager
async def connected_pair(world: World) -> AsyncIterator[tuple[MuxedNetwork, MuxedNetwork]]:
    """Two networks with a connection that both have heard of; both answer echo."""
    async with world.network(SMALLER) as a, world.network(LARGER) as b:
        a.on_stream(ECHO, echo)
        b.on_stream(ECHO, echo)
        await a.dial(b.listen_addresses[0])
        assert await a.events.receive() == Connected(b.me, is_dialled=True)
        assert await b.events.receive() == Connected(a.me)
        yield a, b


def stream_makers(
    a: MuxedNetwork, b: MuxedNetwork
) -> tuple[Callable[[], Awaitable[tuple[PeerStream, PeerStream]]], ...]:
    """Functions that make both ends of a stream: an idle one, and one that is full both ways."""
    arrived_in, arrived_out = trio.open_memory_channel[PeerStream](1)

    async def keep(stream: PeerStream) -> None:
        await arrived_in.send(stream)
        await trio.sleep_forever()

    b.on_stream("/kept/1", keep)

    async def idle() -> tuple[PeerStream, PeerStream]:
        opened = await a.open_stream(b.me, "/kept/1")
        return opened, await arrived_out.receive()

    async def clogged() -> tuple[PeerStream, PeerStream]:
        ends = await idle()
        for end in ends:
            # Exactly what the peer granted: the next byte has to wait, on the slowest machine too.
            assert isinstance(end, YamuxStream)
            await end.send_all(bytes(end._send_window))
        return ends

    return idle, clogged


async def send_forever(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(bytes(1000))


async def assert_echoes(network: MuxedNetwork, other: MuxedNetwork, data: bytes = b"hello") -> None:
    async with await network.open_stream(other.me, ECHO) as stream:
        await stream.send_all(data)
        await stream.send_eof()
        assert await receive_all(stream) == data


def stream_count(network: MuxedNetwork, peer: MuxedNetwork) -> int:
    return sum(connection.session.stream_count for connection in network._table.all_of(peer.me))


async def assert_nothing_happened(network: MuxedNetwork) -> None:
    """No event now, nor soon: what is under way on loopback arrives within a twentieth of a second."""
    with trio.move_on_after(0.05):
        raise AssertionError(f"unexpected {await network.events.receive()}")


def test_a_stream_keeps_trios_contract(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            await trio.testing.check_half_closeable_stream(*stream_makers(a, b))

    holds(test)


def test_much_data_arrives_whole_on_many_streams_at_once(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b), trio.open_nursery() as nursery:
            for number in range(4):
                for sender, receiver in ((a, b), (b, a)):
                    nursery.start_soon(exchange, sender, receiver, bytes([number]) * 1_000_000)

    async def exchange(sender: MuxedNetwork, receiver: MuxedNetwork, data: bytes) -> None:
        stream = await sender.open_stream(receiver.me, ECHO)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send_and_end, stream, data)
            assert await receive_all(stream) == data

    async def send_and_end(stream: PeerStream, data: bytes) -> None:
        await stream.send_all(data)
        await stream.send_eof()

    holds(test)


def test_a_stream_knows_its_peer_and_its_protocol(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            idle, _ = stream_makers(a, b)
            opened, accepted = await idle()
            assert (opened.peer, opened.protocol_id) == (b.me, "/kept/1")
            assert (accepted.peer, accepted.protocol_id) == (a.me, "/kept/1")

    holds(test)


def test_what_streams_are_open_for_is_known_until_the_peer_ends_them(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            idle, _ = stream_makers(a, b)
            assert set(a.open_protocols(b.me)) == set(b.open_protocols(a.me)) == set()
            opened, accepted = await idle()
            assert set(a.open_protocols(b.me)) == set(b.open_protocols(a.me)) == {"/kept/1"}
            await accepted.send_eof()
            assert await opened.receive_some() == b""
            assert set(a.open_protocols(b.me)) == set()
            assert set(b.open_protocols(a.me)) == {"/kept/1"}
            await opened.aclose()
            assert await accepted.receive_some() == b""
            assert set(b.open_protocols(a.me)) == set()

    holds(test)


def test_a_protocol_nobody_answers_is_not_spoken(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            with pytest.raises(ProtocolNotSpoken):
                await a.open_stream(b.me, "/unknown/1")
            await assert_echoes(a, b)

    holds(test)


def test_a_stream_to_a_stranger_is_unreachable(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a:
            with pytest.raises(Unreachable):
                await a.open_stream(LARGER.peer_id, ECHO)

    holds(test)


def test_a_stream_ends_when_its_handler_returns(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):

            async def greet(stream: PeerStream) -> None:
                await stream.send_all(b"hello")

            b.on_stream("/greet/1", greet)
            stream = await a.open_stream(b.me, "/greet/1")
            assert await receive_all(stream) == b"hello"

    holds(test)


def test_reset_breaks_the_other_side(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            idle, clogged = stream_makers(a, b)
            opened, accepted = await idle()
            await opened.reset()
            with pytest.raises(trio.BrokenResourceError):
                await accepted.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await accepted.send_all(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await opened.receive_some()

            opened, accepted = await clogged()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accepted.reset)
                with pytest.raises(trio.BrokenResourceError):
                    await opened.send_all(b"x")
            await assert_echoes(a, b)

    holds(test)


def test_what_arrived_before_a_reset_can_still_be_read(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            idle, _ = stream_makers(a, b)
            opened, accepted = await idle()
            await opened.send_all(b"last words")
            await opened.reset()
            with pytest.raises(trio.BrokenResourceError):
                await send_forever(accepted)
            assert await accepted.receive_some() == b"last words"
            with pytest.raises(trio.BrokenResourceError):
                await accepted.receive_some()

    holds(test)


def test_a_cancelled_send_costs_its_own_stream_only(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            _, clogged = stream_makers(a, b)
            opened, accepted = await clogged()
            with trio.move_on_after(0.01):
                await opened.send_all(bytes(1_000_000))
            await assert_echoes(a, b)
            await assert_echoes(b, a)
            await opened.aclose()
            await accepted.aclose()

    holds(test)


@pytest.mark.parametrize("delay", [0.0, 0.0003, 0.001, 0.003])
def test_a_cancelled_open_leaves_no_stream(holds: Claim, delay: float) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            with trio.move_on_after(delay):
                async with await a.open_stream(b.me, ECHO):
                    pass
            await assert_echoes(a, b)
            # The echo came behind everything else, so the other end has heard of the end as well.
            assert stream_count(a, b) == stream_count(b, a) == 0

    holds(test)


def test_a_handler_that_raises_loses_its_stream_and_nothing_else(
    holds: Claim, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):

            async def fail(stream: PeerStream) -> None:
                await stream.receive_some()
                raise ZeroDivisionError

            b.on_stream("/fail/1", fail)
            async with await a.open_stream(b.me, ECHO) as bystander:
                stream = await a.open_stream(b.me, "/fail/1")
                await stream.send_all(b"x")
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
                await bystander.send_all(b"still here")
                assert await bystander.receive_some() == b"still here"
            await assert_nothing_happened(a)

    with caplog.at_level(logging.ERROR):
        holds(test)
    assert [record.name for record in caplog.records] == ["p2p.muxed_network"]


def test_another_secret_never_connects(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a, world.network(LARGER, OTHER_SECRET) as b:
            with trio.fail_after(5):  # Noise is told from an answer long before patience ends.
                with pytest.raises(Unreachable):
                    await a.dial(b.listen_addresses[0])
                with pytest.raises(Unreachable):
                    await b.dial(a.listen_addresses[0])
            await assert_nothing_happened(a)
            await assert_nothing_happened(b)

    holds(test)


def test_another_peer_at_the_address_is_unreachable(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a, world.network(LARGER) as b:
            somebody = Identity(b"\3" * 32).peer_id
            with pytest.raises(Unreachable):
                await a.dial(PeerAddress(somebody, b.listen_addresses[0].multiaddr))
            await assert_nothing_happened(a)

    holds(test)


def test_nobody_at_the_address_is_unreachable(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a:
            async with world.network(LARGER) as b:
                (address,) = b.listen_addresses
            with pytest.raises(Unreachable):
                await a.dial(address)
            with pytest.raises(Unreachable):
                await a.dial(PeerAddress(LARGER.peer_id, "/ip4/127.0.0.1/udp/1"))
            with pytest.raises(Unreachable):
                await a.dial(PeerAddress(a.me, a.listen_addresses[0].multiaddr))

    holds(test)


def test_dialling_a_connected_peer_does_nothing(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            await a.dial(b.listen_addresses[0])
            await b.dial(a.listen_addresses[0])
            await assert_nothing_happened(a)
            await assert_nothing_happened(b)

    holds(test)


def test_two_dials_of_one_peer_at_once_make_one_connection(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a, world.network(LARGER) as b:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(a.dial, b.listen_addresses[0])
            for network in (a, b):
                assert isinstance(await network.events.receive(), Connected)
                await assert_nothing_happened(network)

    holds(test)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.004])
def test_a_cancelled_dial_leaves_no_connection_half_open(holds: Claim, delay: float) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a, world.network(LARGER) as b:
            b.on_stream(ECHO, echo)
            with trio.move_on_after(delay):
                await a.dial(b.listen_addresses[0])
            await a.dial(b.listen_addresses[0])
            await assert_echoes(a, b)
            events: deque[object] = deque()
            with trio.move_on_after(0.1):
                while True:
                    events.append(await b.events.receive())
            # Whatever b saw of the first dial, it ended with one connection.
            kinds = [type(event) for event in events]
            assert kinds in ([Connected], [Connected, Disconnected, Connected])

    holds(test)


def test_disconnect_is_seen_once_on_each_side_and_breaks_streams(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with connected_pair(world) as (a, b):
            idle, _ = stream_makers(a, b)
            opened, accepted = await idle()
            await a.disconnect(b.me)
            for network, peer, end in ((a, b, opened), (b, a, accepted)):
                assert await network.events.receive() == Disconnected(peer.me)
                await assert_nothing_happened(network)
                with pytest.raises(trio.BrokenResourceError):
                    await end.receive_some()
                with pytest.raises(Unreachable):
                    await network.open_stream(peer.me, ECHO)
            await a.disconnect(b.me)

    holds(test)


def test_an_abrupt_death_ends_streams_and_is_seen_once(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a:
            async with world.network(LARGER) as b:
                idle, clogged = stream_makers(a, b)
                await a.dial(b.listen_addresses[0])
                assert isinstance(await a.events.receive(), Connected)
                reading, _ = await idle()
                sending, _ = await clogged()
            with trio.fail_after(1):
                with pytest.raises(trio.BrokenResourceError):
                    await reading.receive_some()
                with pytest.raises(trio.BrokenResourceError):
                    await sending.send_all(b"x")
                assert await a.events.receive() == Disconnected(b.me)
            await assert_nothing_happened(a)

    holds(test)


def test_a_peer_that_comes_back_is_connected_anew(holds: Claim) -> None:
    async def test(world: World) -> None:
        async with world.network(SMALLER) as a:
            for _ in range(3):
                async with world.network(LARGER) as b:
                    b.on_stream(ECHO, echo)
                    await a.dial(b.listen_addresses[0])
                    assert isinstance(await a.events.receive(), Connected)
                    await assert_echoes(a, b)
                assert isinstance(await a.events.receive(), Disconnected)

    holds(test)


def test_of_two_dials_that_cross_the_smaller_ids_stays(holds: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    first_is_dialled: dict[PeerId, bool] = {}
    add = ConnectionTable.add

    def add_and_note(table: ConnectionTable[Link], link: Link) -> tuple[Placement, Link | None]:
        first_is_dialled.setdefault(table.me, link.is_dialled)
        return add(table, link)

    monkeypatch.setattr(ConnectionTable, "add", add_and_note)

    async def test(world: World) -> None:
        async with world.network(SMALLER) as a, world.network(LARGER) as b:
            a.on_stream(ECHO, echo)
            b.on_stream(ECHO, echo)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial_and_use, a, b)
                nursery.start_soon(dial_and_use, b, a)
            for network, peer in ((a, b), (b, a)):
                is_dialled = first_is_dialled[network.me]
                assert await network.events.receive() == Connected(peer.me, is_dialled)
                if is_dialled != (network.me == SMALLER.peer_id):
                    assert await network.events.receive() == Rerouted(peer.me)
                await assert_nothing_happened(network)
            for network, peer in ((a, b), (b, a)):
                for connection in network._table.all_of(peer.me):
                    if connection.is_dialled != (network.me == SMALLER.peer_id):
                        await connection.session.ended.wait()
                await assert_nothing_happened(network)
                await assert_echoes(network, peer)
                (kept,) = network._table.all_of(peer.me)
                assert kept.is_dialled == (network.me == SMALLER.peer_id)

    async def dial_and_use(network: MuxedNetwork, peer: MuxedNetwork) -> None:
        await network.dial(peer.listen_addresses[0])
        await assert_echoes(network, peer)

    holds(test)
