"""Whole nodes on the memory network: all that runs in a node but its engine and its HTTP.

    Swarm, Ledger, Replicator, Prober, SwarmView, Front, and an InferServer around a stub

Under `MockClock` minutes pass in the time that the computing takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import trio

from federation.front import Front
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.prober import Prober
from ledger.records import ModelRecord, NodeRecord
from ledger.replicate import Replicator
from ledger.view import NodeState, SwarmView
from p2p.identity import Identity
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.peer import PeerId
from p2p.swarm import Introduction, Swarm
from tests.federation.conftest import MODEL, StubBackend, make_request, read_answer

FOUNDER = Identity(bytes([202]) * 32)

LOOK_INTERVAL = 0.1
"""Seconds between looks at what nodes show. To wake at each change would ask fifty views a thousand times."""


class WholeNode:
    """One node with a worker that says three words."""

    def __init__(self, number: int, network: MemoryNetwork, membership: SwarmMembership) -> None:
        identity = identity_of(number)
        self.number = number
        self.peer: PeerId = identity.peer_id
        self.network = network
        self.stub = StubBackend(self.peer)
        rng = Random(number)
        boot_id, name = f"boot{number}", f"node{number:02}"
        self.swarm = Swarm(
            network, membership, Introduction(name, "1.0", boot_id), rng=rng, wall_clock=lambda: 1e9 + number
        )
        author = Author(identity, membership.credential)
        self.ledger = Ledger.open(None, author, membership.founder_public_key, boot_id)
        self.prober = Prober(self.swarm, self.ledger, self.loads, rng)
        self.replicator = Replicator(self.swarm, self.ledger, self.prober.is_doubtful, rng)
        self.view = SwarmView(self.ledger, self.prober, self.loads)
        InferServer(self.stub, self.stub.load).attach(self.swarm)
        self.front = Front(
            self.peer,
            self.view,
            local=None,
            remote=partial(RemoteBackend, self.swarm),
            rng=rng,
            on_peer_failure=self.prober.report_failure,
        )
        addresses = tuple(address.multiaddr for address in network.listen_addresses)
        self.ledger.put_record(NodeRecord(name, "worker", "1.0", addresses=addresses))
        self.ledger.put_record(ModelRecord(MODEL, "loaded", ("completion",), slots=4))
        self.scope = trio.CancelScope()

    def loads(self) -> dict:  # type: ignore[type-arg]
        return {MODEL: self.stub.load(MODEL)}

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                for part in (self.swarm, self.ledger, self.replicator, self.prober, self.view):
                    nursery.start_soon(part.run)

    def sees(self, others: Iterable[WholeNode], *states: NodeState) -> bool:
        """Whether each of `others` is shown in one of `states`."""
        shown = {row.peer: row.state for row in self.view.nodes()}
        return all(shown.get(other.peer) in states for other in others if other is not self)

    async def ask(self) -> PeerId:
        """Have the swarm answer a request that came in here; returns who did."""
        answered = await read_answer(self.front, make_request())
        assert answered.text == "one two three"
        return answered.answer.served_by


class WholeSwarm:
    """All of them, and the network between them."""

    def __init__(self, hub: MemoryHub, nodes: list[WholeNode]) -> None:
        self.hub = hub
        self.nodes = nodes

    def kill(self, node: WholeNode) -> None:
        """Its process ends: its sockets close, and it says nothing."""
        self.hub.kill(node.peer)
        node.scope.cancel()
        self.nodes.remove(node)

    def all_see(self, *states: NodeState, of: Iterable[WholeNode] | None = None) -> bool:
        others = self.nodes if of is None else list(of)
        return all(node.sees(others, *states) for node in self.nodes)

    async def until(self, holds: Callable[[], bool], within: float) -> float:
        """Wait until `holds`; returns for how many seconds.

        Raises:
          trio.TooSlowError: it did not, `within` so many.
        """
        begun = trio.current_time()
        with trio.fail_after(within):
            while not holds():  # noqa: ASYNC110 - there is an event for each view, and fifty views
                await trio.sleep(LOOK_INTERVAL)
        return trio.current_time() - begun


@asynccontextmanager
async def whole_swarm(hub: MemoryHub, count: int) -> AsyncIterator[WholeSwarm]:
    """`count` nodes that start at once and know the address of the first one."""
    async with trio.open_nursery() as nursery:
        networks = [
            await nursery.start(_keep_network, hub, identity_of(number).peer_id) for number in range(count)
        ]
        founded = found_swarm("home", FOUNDER, networks[0].me)
        assert founded.invite is not None
        token = founded.token(founded.invite, networks[0].listen_addresses)
        memberships = [founded, *(join_swarm(token, network.me) for network in networks[1:])]
        nodes = [WholeNode(number, networks[number], memberships[number]) for number in range(count)]
        for node in nodes:
            nursery.start_soon(node.run)
        yield WholeSwarm(hub, nodes)
        nursery.cancel_scope.cancel()


def identity_of(number: int) -> Identity:
    return Identity(bytes([3, number]) * 16)


async def _keep_network(hub: MemoryHub, peer: PeerId, *, task_status: trio.TaskStatus[MemoryNetwork]) -> None:
    async with hub.network(peer) as network:
        task_status.started(network)
        await trio.sleep_forever()
