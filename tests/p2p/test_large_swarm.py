"""A swarm in which nobody is connected to everybody is one swarm all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from p2p import hello
from p2p.admission_config import AdmissionConfig
from p2p.errors import Unreachable
from p2p.known_peer import Origin
from p2p.memory_link import LinkQuality
from p2p.memory_network import MemoryHub
from p2p.neighbours import NeighboursConfig
from p2p.peer import PeerAddress, PeerId
from p2p.peer_events import PeerLost
from tests.mock_time import run
from tests.p2p.people import identity
from tests.p2p.small_swarm import ECHO, Node, node, token, until

COUNT = 40
ENOUGH = 16
"""Nodes, where it is enough that some are not connected."""
FEW = NeighboursConfig(min=6, max=8)
CONFIG = AdmissionConfig(neighbours=FEW)
PEOPLE = [identity(f"one of many {number}") for number in range(COUNT)]


@asynccontextmanager
async def large_swarm(hub: MemoryHub, count: int = COUNT) -> AsyncIterator[list[Node]]:
    """Nodes that all knew only the first one, at rest."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(hub, PEOPLE[0], config=CONFIG))]
        for who in PEOPLE[1:count]:
            joins = token(nodes[0].address)
            nodes.append(await stack.enter_async_context(node(hub, who, joins, config=CONFIG)))
        await trio.sleep(60)
        yield nodes


def hub_of(seed: int = 1) -> MemoryHub:
    return MemoryHub(seed=seed, quality=LinkQuality(latency=0.005))


def component(nodes: Sequence[Node]) -> set[PeerId]:
    """Everybody whom the first of `nodes` reaches, over whatever others."""
    links = {here.swarm.me: set(here.swarm.peers()) & ids(nodes) for here in nodes}
    start = next(iter(links))
    seen, front = {start}, [start]
    while front:
        new = links[front.pop()] - seen
        seen |= new
        front += new
    return seen


def ids(nodes: Iterable[Node]) -> set[PeerId]:
    return {here.swarm.me for here in nodes}


def degrees(nodes: Iterable[Node]) -> list[int]:
    return sorted(len(here.swarm.peers()) for here in nodes)


def are_within_bounds(nodes: Sequence[Node]) -> bool:
    fewest, *_, most = degrees(nodes)
    return fewest >= FEW.min and most <= FEW.max


def two_apart(nodes: Sequence[Node]) -> tuple[Node, Node]:
    """Two that are not connected, of which the first knows where the second is."""
    return next(
        (here, there)
        for here in nodes
        for there in nodes
        if here is not there
        and there.swarm.me not in here.swarm.peers()
        and there.address in here.swarm.known_addresses()
    )


@pytest.mark.parametrize("seed", range(3))
def test_all_who_know_one_become_one_swarm_with_few_links_each(seed: int) -> None:
    async def main() -> None:
        async with large_swarm(hub_of(seed)) as nodes:
            assert component(nodes) == ids(nodes)
            await until(lambda: are_within_bounds(nodes), within=60)
            for here in nodes:
                lost = [event for event in here.events if isinstance(event, PeerLost)]
                assert {event.reason for event in lost} <= {hello.ENOUGH}

    run(main, seed=1)


def test_a_swarm_that_was_cut_in_two_is_one_again() -> None:
    async def main() -> None:
        hub = hub_of()
        async with large_swarm(hub) as nodes:
            left, right = nodes[::2], nodes[1::2]
            hub.partition(ids(left), ids(right))
            for here in nodes:
                # What each end's TCP does, once nothing it sent was acknowledged for long enough.
                for peer in set(here.swarm.peers()) & ids(right if here in left else left):
                    await here.network.disconnect(peer)
            await trio.sleep(300)
            for half in (left, right):
                assert component(half) == ids(half)
                assert degrees(half)[0] >= FEW.min - 2, "who lost a link to a feeler looks for another"
            hub.heal()
            await until(lambda: component(nodes) == ids(nodes), within=120)

    run(main, seed=1)


def test_half_of_a_swarm_dies_and_the_rest_is_one_soon() -> None:
    async def main() -> None:
        hub = hub_of()
        async with large_swarm(hub) as nodes:
            dead, alive = nodes[::2], nodes[1::2]
            for here in dead:
                hub.kill(here.swarm.me)
            took = await until(
                lambda: component(alive) == ids(alive) and degrees(alive)[0] >= FEW.min, within=60
            )
            assert took < 20

    run(main, seed=1)


def test_a_stream_to_a_member_that_is_not_connected_connects_it() -> None:
    async def main() -> None:
        async with large_swarm(hub_of(), ENOUGH) as nodes:
            here, there = two_apart(nodes)
            start = trio.current_time()
            stream = await here.swarm.open_stream(there.swarm.me, ECHO)
            assert trio.current_time() - start < 0.2
            await stream.send_all(b"hello")
            assert await stream.receive_some(64) == b"hello"

    run(main, seed=1)


def test_many_callers_share_one_attempt() -> None:
    async def main() -> None:
        async with large_swarm(hub_of(), ENOUGH) as nodes:
            here, there = two_apart(nodes)
            dials: list[PeerAddress] = []
            dial = here.network.dial

            async def counted(address: PeerAddress) -> None:
                dials.append(address)
                await dial(address)

            async def call() -> None:
                async with await here.swarm.open_stream(there.swarm.me, ECHO):
                    pass

            here.network.dial = counted  # type: ignore[method-assign]  # to see how often
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(call)
            assert dials == [there.address]

    run(main, seed=1)


def test_a_caller_hears_in_time_that_a_silent_peer_cannot_be_reached() -> None:
    async def main() -> None:
        hub = hub_of()
        async with large_swarm(hub, ENOUGH) as nodes:
            here, there = two_apart(nodes)
            hub.freeze(there.swarm.me)
            start = trio.current_time()
            with pytest.raises(Unreachable):
                await here.swarm.open_stream(there.swarm.me, ECHO)
            assert trio.current_time() - start < 5.5
            assert here.swarm._awaited == {}

    run(main, seed=1)


def test_a_caller_hears_at_once_that_nobody_is_at_home() -> None:
    async def main() -> None:
        hub = hub_of()
        async with large_swarm(hub, ENOUGH) as nodes:
            here, there = two_apart(nodes)
            hub.kill(there.swarm.me)
            start = trio.current_time()
            with pytest.raises(Unreachable):
                await here.swarm.open_stream(there.swarm.me, ECHO)
            assert trio.current_time() - start < 0.5

    run(main, seed=1)


def test_no_connection_is_made_for_a_standing_protocol() -> None:
    async def main() -> None:
        async with large_swarm(hub_of(), ENOUGH) as nodes:
            here, there = two_apart(nodes)
            with pytest.raises(Unreachable):
                await here.swarm.open_stream(there.swarm.me, hello.PROTOCOL_ID)
            assert there.swarm.me not in here.swarm.peers()

    run(main, seed=1)


def test_a_connection_with_an_open_stream_stays_and_without_it_goes() -> None:
    async def main() -> None:
        async with large_swarm(hub_of(), ENOUGH) as nodes:
            first, *others = nodes
            streams = []
            for there in others[: FEW.max]:
                first.swarm.add_addresses([there.address], Origin.NEARBY)
                streams.append(await first.swarm.open_stream(there.swarm.me, ECHO))
            await trio.sleep(120)
            assert ids(others[: FEW.max]) <= set(first.swarm.peers())
            for stream in streams:
                await stream.aclose()
            await until(lambda: len(first.swarm.peers()) <= FEW.max, within=5)

    run(main, seed=1)


def test_swarms_that_end_leave_no_caller_waiting() -> None:
    async def main() -> None:
        hub = hub_of()
        async with large_swarm(hub, ENOUGH) as nodes:
            here, there = two_apart(nodes)
            hub.freeze(there.swarm.me)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(refused, here, there)
                await trio.sleep(1)
                here.running.cancel()

    async def refused(here: Node, there: Node) -> None:
        with trio.CancelScope(shield=True), pytest.raises(Unreachable):
            await here.swarm.open_stream(there.swarm.me, ECHO)

    run(main, seed=1)
