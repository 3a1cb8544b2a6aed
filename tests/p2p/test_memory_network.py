"""The weather between networks in memory: what each fault does, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2p.connection_table import DIAL_TIME_MAX
from p2p.errors import Unreachable
from p2p.memory_link import LinkQuality
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import Connected, Disconnected, PeerStream
from p2p.peer import PeerId
from tests.echo import ECHO, echo
from tests.mock_time import run

A, B = PeerId("a"), PeerId("b")


@asynccontextmanager
async def connected_pair(hub: MemoryHub) -> AsyncIterator[tuple[MemoryNetwork, MemoryNetwork]]:
    async with hub.network(A) as a, hub.network(B) as b:
        b.on_stream(ECHO, echo)
        await a.dial(b.address)
        await a.events.receive()
        await b.events.receive()
        yield a, b


async def seconds_to_echo(stream: PeerStream) -> float:
    start = trio.current_time()
    await stream.send_all(b"x")
    assert await stream.receive_some() == b"x"
    return trio.current_time() - start


def test_bytes_take_the_latency_each_way() -> None:
    async def test() -> None:
        async with connected_pair(MemoryHub(quality=LinkQuality(latency=0.05))) as (a, _):
            stream = await a.open_stream(B, ECHO)
            assert await seconds_to_echo(stream) == pytest.approx(0.1)

    run(test)


def test_loss_delays_and_loses_nothing() -> None:
    async def test() -> None:
        async with connected_pair(MemoryHub(seed=3, quality=LinkQuality(latency=0.01, loss=0.3))) as (a, _):
            stream = await a.open_stream(B, ECHO)
            times = [await seconds_to_echo(stream) for _ in range(50)]
            assert min(times) == pytest.approx(0.02)
            assert max(times) > 0.2

    run(test)


def test_jitter_never_reorders() -> None:
    async def test() -> None:
        async with connected_pair(MemoryHub(quality=LinkQuality(jitter=0.1))) as (a, _):
            stream = await a.open_stream(B, ECHO)
            sent = bytes(range(100))
            for byte in sent:
                await stream.send_all(bytes([byte]))
                await trio.sleep(0.001)
            received = b""
            while len(received) < len(sent):
                received += await stream.receive_some()
            assert received == sent

    run(test)


def test_a_seed_draws_the_same_weather_again() -> None:
    def delays(seed: int) -> list[float]:
        hub = MemoryHub(seed=seed, quality=LinkQuality(jitter=0.1, loss=0.1))
        return [hub.delay() for _ in range(20)]

    assert delays(1) == delays(1)
    assert delays(1) != delays(2)


def test_a_partition_holds_bytes_until_it_heals_and_breaks_nothing() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, b):
            stream = await a.open_stream(B, ECHO)
            hub.partition([A], [B])
            await stream.send_all(b"held")
            with trio.move_on_after(3600):
                await stream.receive_some()
                raise AssertionError("nothing comes through a partition")
            for network in (a, b):
                with pytest.raises(trio.WouldBlock):
                    network.events.receive_nowait()
            hub.heal()
            assert await stream.receive_some() == b"held"

    run(test)


def test_a_cut_holds_one_direction_only() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, b):
            arrived: list[bytes] = []

            async def note(stream: PeerStream) -> None:
                arrived.append(bytes(await stream.receive_some()))
                await stream.send_all(b"unheard")

            b.on_stream("/note/1", note)
            stream = await a.open_stream(B, "/note/1")
            hub.cut(B, A)
            await stream.send_all(b"heard")
            await trio.sleep(60)
            assert arrived == [b"heard"]
            hub.heal()
            assert await stream.receive_some() == b"unheard"

    run(test)


def test_a_dial_into_a_partition_gives_up_in_time() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with hub.network(A) as a, hub.network(B) as b:
            hub.partition([A], [B])
            start = trio.current_time()
            with pytest.raises(Unreachable):
                await a.dial(b.address)
            assert trio.current_time() - start == pytest.approx(DIAL_TIME_MAX)
            hub.heal()
            await a.dial(b.address)

    run(test)


def test_a_frozen_peer_shows_nothing_and_thaws_where_it_was() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, _):
            stream = await a.open_stream(B, ECHO)
            hub.freeze(B)
            await stream.send_all(b"x")
            await trio.sleep(3600)
            with pytest.raises(trio.WouldBlock):
                a.events.receive_nowait()
            hub.thaw(B)
            assert await stream.receive_some() == b"x"

    run(test)


def test_a_killed_peer_breaks_its_streams_and_does_nothing_more() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, b):
            stream = await a.open_stream(B, ECHO)
            hub.kill(B)
            with trio.fail_after(0.1):
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
                assert await a.events.receive() == Disconnected(B)
            for caller, address in ((a, b.address), (b, a.address)):
                with pytest.raises(Unreachable):
                    await caller.dial(address)

    run(test)


def test_a_peer_killed_behind_a_partition_is_missed_only_when_it_heals() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, _):
            hub.partition([A], [B])
            hub.kill(B)
            await trio.sleep(3600)
            with pytest.raises(trio.WouldBlock):
                a.events.receive_nowait()
            hub.heal()
            assert await a.events.receive() == Disconnected(B)

    run(test)


def test_a_peer_that_comes_back_from_a_power_cut_replaces_its_old_connection() -> None:
    async def test() -> None:
        hub = MemoryHub()
        async with connected_pair(hub) as (a, _):
            hub.power_off(B)
            await trio.sleep(60)
            with pytest.raises(trio.WouldBlock):
                a.events.receive_nowait()
            async with hub.network(B) as reborn:
                reborn.on_stream(ECHO, echo)
                await reborn.dial(a.address)
                assert await a.events.receive() == Disconnected(B)
                event = await a.events.receive()
                assert isinstance(event, Connected)
                assert await seconds_to_echo(await a.open_stream(B, ECHO)) < 0.1

    run(test)


def test_dials_fail_as_often_as_the_weather_says() -> None:
    async def test() -> None:
        hub = MemoryHub(quality=LinkQuality(dial_loss=0.5))
        failures = 0
        async with hub.network(A) as a, hub.network(B) as b:
            for _ in range(100):
                try:
                    await a.dial(b.address)
                    await a.disconnect(B)
                except Unreachable:
                    failures += 1
                while a._table.current(B) or b._table.current(A):  # noqa: ASYNC110  both must have heard
                    await trio.sleep(0.01)
        assert 30 < failures < 70

    run(test)
