"""A few swarms on one memory hub, under a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio
import trio.testing

from p2p.admission_config import AdmissionConfig
from p2p.identity import Identity
from p2p.known_peer import Origin
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import PeerStream
from p2p.peer import PeerAddress
from p2p.peer_events import PeerEvent
from p2p.swarm import Introduction, Swarm
from p2p.token import Token
from tests.p2p.people import FOUNDER, invite

SECRET = bytes(16)
UNIX_TIME = 1_800_000_000.0
ECHO = "/test/echo/1"


def token(*addresses: PeerAddress, expires_at: int = 0, founder: Identity = FOUNDER) -> Token:
    return Token("home", SECRET, addresses, invite(expires_at=expires_at, founder=founder))


@dataclass
class Node:
    """One member, what it saw, and who opened streams to it."""

    swarm: Swarm
    network: MemoryNetwork
    events: list[PeerEvent] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    running: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def address(self) -> PeerAddress:
        return self.network.listen_addresses[0]

    def sees(self, *others: Identity) -> bool:
        return set(self.swarm.peers()) == {other.peer_id for other in others}

    async def echo(self, stream: PeerStream) -> None:
        self.callers.append(stream.peer)
        await stream.send_all(await stream.receive_some(64))

    async def watch(self) -> None:
        with self.swarm.subscribe() as events:
            async for event in events:
                self.events.append(event)


def swarm_on(
    network: MemoryNetwork,
    membership: SwarmMembership,
    boot_id: str = "first",
    config: AdmissionConfig | None = None,
) -> Swarm:
    return Swarm(
        network,
        membership,
        Introduction(f"node of {network.me[-4:]}", "0.1.0", boot_id),
        rng=Random(network.me),
        wall_clock=lambda: UNIX_TIME,
        config=config,
    )


@asynccontextmanager
async def node(
    hub: MemoryHub,
    who: Identity,
    joins: Token | SwarmMembership | None = None,
    *,
    boot_id: str = "first",
    kept: Iterable[PeerAddress] = (),
    multiaddr: str | None = None,
    config: AdmissionConfig | None = None,
) -> AsyncIterator[Node]:
    """A running member: of its own new swarm, or of the one it `joins`."""
    if joins is None:
        joins = found_swarm("home", FOUNDER, who.peer_id)
    membership = join_swarm(joins, who.peer_id) if isinstance(joins, Token) else joins
    async with (
        hub.network(who.peer_id, SECRET, multiaddr=multiaddr) as network,
        trio.open_nursery() as nursery,
    ):
        swarm = swarm_on(network, membership, boot_id, config)
        here = Node(swarm, network, running=nursery.cancel_scope)
        swarm.on_stream(ECHO, here.echo)
        swarm.add_addresses(kept, Origin.KEPT)
        nursery.start_soon(here.watch)
        await nursery.start(swarm.run)
        yield here
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], *, within: float) -> float:
    """Wait for `condition`, and say how many seconds that took, to a hundredth."""
    start = trio.current_time()
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - the clock jumps, so looking costs no time
            await trio.sleep(0.01)
    return trio.current_time() - start
