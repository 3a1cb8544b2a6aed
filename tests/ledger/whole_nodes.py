"""Nodes without engine and HTTP, on any network: swarm, ledger, liveness and view."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

import trio

from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.prober import Prober
from ledger.records import Load, ModelName, NodeRecord, Presence
from ledger.replicate import Replicator
from ledger.view import NodeState, NodeView, SwarmView
from p2p.identity import Identity
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import Network
from p2p.peer import PeerId
from p2p.swarm import Introduction, Swarm
from tests.ledger.replicas import IDENTITIES

FOUNDER = Identity(bytes([200]) * 32)


class HasPeer(Protocol):
    """A node, here or in another process."""

    peer: PeerId


class WholeNode:
    """One node; `identity` 0 has the smallest peer id."""

    def __init__(self, number: int, network: Network, membership: SwarmMembership) -> None:
        identity = IDENTITIES[number]
        self.peer: PeerId = identity.peer_id
        self.name = f"node{number}"
        self.network = network
        self.loads: dict[ModelName, Load] = {}
        rng = Random(number)
        introduction = Introduction(self.name, "1.0", f"boot{number}")
        self.swarm = Swarm(network, membership, introduction, rng=rng, wall_clock=lambda: 1_000_000_000.0)
        author = Author(identity, membership.credential)
        self.ledger = Ledger.open(None, author, membership.founder_public_key, f"boot{number}")
        self.asleep = 0.0
        """Seconds its machine slept."""
        self.prober = Prober(self.swarm, self.ledger, lambda: self.loads, rng, lambda: self.asleep)
        self.replicator = Replicator(self.swarm, self.ledger, self.prober.is_doubtful, rng)
        self.view = SwarmView(self.ledger, self.prober, lambda: self.loads)
        self.say("here")
        self.scope = trio.CancelScope()

    def say(self, presence: Presence) -> None:
        self.ledger.put_record(NodeRecord(self.name, "worker", "1.0", presence))

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                for part in (self.swarm, self.ledger, self.replicator, self.prober, self.view):
                    nursery.start_soon(part.run)

    def row(self, other: WholeNode) -> NodeView:
        """What this node shows of `other`."""
        return next(node for node in self.view.nodes() if node.peer == other.peer)

    async def sees(self, other: HasPeer, *states: NodeState) -> None:
        """Wait until `other` is shown in one of `states`."""
        await until_shown(
            self.view, lambda nodes: any(node.peer == other.peer and node.state in states for node in nodes)
        )


@asynccontextmanager
async def whole_nodes(hub: MemoryHub, count: int) -> AsyncIterator[list[WholeNode]]:
    """`count` nodes of one swarm that see each other online."""
    async with trio.open_nursery() as nursery:
        networks = [
            await nursery.start(_keep_network, hub, identity.peer_id) for identity in IDENTITIES[:count]
        ]
        founded = found_swarm("home", FOUNDER, networks[0].me)
        assert founded.invite is not None
        token = founded.token(founded.invite, networks[0].listen_addresses)
        memberships = [founded, *(join_swarm(token, network.me) for network in networks[1:])]
        nodes = [WholeNode(number, networks[number], memberships[number]) for number in range(count)]
        for node in nodes:
            nursery.start_soon(node.run)
        with trio.fail_after(10):
            await all_see(nodes, "online")
        yield nodes
        nursery.cancel_scope.cancel()


async def until_shown(view: SwarmView, predicate: Callable[[Sequence[NodeView]], bool]) -> None:
    """Wait until `predicate` holds for the nodes of `view`; it is asked again after each change."""
    while not predicate(view.nodes()):
        await view.revision.after(view.revision.number)


async def all_see(
    nodes: Sequence[WholeNode], *states: NodeState, of: Sequence[WholeNode] | None = None
) -> None:
    """Wait until each of `nodes` shows each of the others (or those of `of`) in one of `states`."""
    for one in nodes:
        for other in of or nodes:
            if other is not one:
                await one.sees(other, *states)


async def _keep_network(hub: MemoryHub, peer: PeerId, *, task_status: trio.TaskStatus[MemoryNetwork]) -> None:
    async with hub.network(peer) as network:
        task_status.started(network)
        await trio.sleep_forever()
