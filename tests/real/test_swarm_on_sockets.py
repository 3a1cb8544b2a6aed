"""What the swarm promises on the memory network, once more on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest
import trio

from p2p.identity import Identity
from p2p.libp2p_network import Libp2pNetwork
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.network import PeerStream
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost
from p2p.secret import derive_psk
from p2p.swarm import Introduction, Swarm
from tests.p2p.people import ALICE, BOB, CAROL, FOUNDER

pytestmark = pytest.mark.real

FOUNDED = found_swarm("home", FOUNDER, ALICE.peer_id)


@asynccontextmanager
async def member(who: Identity, membership: SwarmMembership) -> AsyncIterator[tuple[Swarm, Libp2pNetwork]]:
    psk = derive_psk(membership.secret)
    async with (
        Libp2pNetwork.open(who, psk, listen=["/ip4/127.0.0.1/tcp/0"]) as network,
        trio.open_nursery() as nursery,
    ):
        swarm = Swarm(network, membership, Introduction("node", "0.1.0", who.peer_id), rng=Random(1))
        await nursery.start(swarm.run)
        yield swarm, network
        nursery.cancel_scope.cancel()


async def admitted(events: PeerEvents, count: int) -> None:
    for _ in range(count):
        assert isinstance(await events.receive(), PeerAdmitted)


def test_members_find_each_other_talk_and_notice_a_loss_within_a_second() -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with AsyncExitStack() as stack:
                alice, network = await stack.enter_async_context(member(ALICE, FOUNDED))
                assert FOUNDED.invite is not None
                token = FOUNDED.token(FOUNDED.invite, network.listen_addresses)
                bob, _ = await stack.enter_async_context(member(BOB, join_swarm(token, BOB.peer_id)))
                with alice.subscribe() as alices, bob.subscribe() as bobs:
                    async with member(CAROL, join_swarm(token, CAROL.peer_id)):
                        await admitted(alices, 2)
                        await admitted(bobs, 2)
                        alice.on_stream("/test/echo/1", echo)
                        stream = await bob.open_stream(ALICE.peer_id, "/test/echo/1")
                        await stream.send_all(b"hello")
                        assert await stream.receive_some(64) == b"hello"
                    # Carol's sockets closed without a goodbye, as if she had been killed.
                    with trio.fail_after(1):
                        for events in (alices, bobs):
                            lost = await events.receive()
                            assert isinstance(lost, PeerLost)
                            assert (lost.peer, lost.announced) == (CAROL.peer_id, False)

    async def echo(stream: PeerStream) -> None:
        await stream.send_all(await stream.receive_some(64))

    trio.run(main)


def test_a_goodbye_is_read_before_the_sockets_close() -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with member(ALICE, FOUNDED) as (alice, network):
                assert FOUNDED.invite is not None
                token = FOUNDED.token(FOUNDED.invite, network.listen_addresses)
                with alice.subscribe() as events:
                    async with member(BOB, join_swarm(token, BOB.peer_id)) as (bob, _):
                        await admitted(events, 1)
                        await bob.say_bye("away")
                    assert await events.receive() == PeerLost(
                        BOB.peer_id, announced=True, reason="away", is_leaving=True
                    )

    trio.run(main)
