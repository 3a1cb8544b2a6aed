"""Whole nodes on the memory network: all that makes a node part of its swarm, on tasks and streams.

    Swarm, Ledger, Replicator, Prober, SwarmView, Publisher, the addresses from the ledger,
    Front and LoadFeeds; GatedBackend around a stub, InferServer and LoadFeedServer

They hold each other as in `node/parts.py` and run as in `node/runtime.py`. What those two have
besides is left out: engines and the worker that starts them, HTTP, mDNS, the control socket, and
the files of the home. All those live in threads and processes, whose time no mock clock keeps.

Under `MockClock` minutes pass in the time that the computing takes. Keys, dice and weather
come from one seed, and with `mock_time.run(..., seed=seed)` the order of the tasks does: then one seed
tells one story. The ledger is kept in memory for that: its file is written in a thread, and when a
thread is done nobody's seed decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import trio

from federation.front import Front
from federation.gated_backend import GatedBackend
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from federation.load_feed_client import LoadFeeds
from federation.load_feed_server import LoadFeedServer
from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.probe import PROTOCOL_ID as PROBE_PROTOCOL
from ledger.prober import Prober
from ledger.records import Load, ModelName, ModelRecord
from ledger.replicate import Replicator
from ledger.sync_messages import LEDGER_PROTOCOL
from ledger.view import NodeState, SwarmView
from node.ledger_addresses import follow_addresses
from node.publisher import Publisher
from p2p.credential import NEVER, Invite
from p2p.identity import Identity
from p2p.known_peer import Origin
from p2p.membership import SwarmMembership, join_swarm
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.peer import PeerId
from p2p.secret import SECRET_SIZE
from p2p.swarm import Introduction, Swarm
from tests.federation.conftest import MODEL, StubBackend, make_request, read_answer

STANDING = (PROBE_PROTOCOL, LEDGER_PROTOCOL)
"""As `node/parts.py` has it. Without them each link would count as in use, and nobody would be let go."""

LOOK_INTERVAL = 0.1
"""Seconds between looks at what nodes show. To wake at each change would ask fifty views a thousand times."""


class WholeNode:
    """One node with a worker that says three words."""

    def __init__(
        self,
        number: int,
        network: MemoryNetwork,
        membership: SwarmMembership,
        rng: Random,
        *,
        uses_own_worker: bool = False,
    ) -> None:
        self.number = number
        self.peer: PeerId = network.me
        self.network = network
        self.stub = StubBackend(self.peer)
        self.has_worker = True
        """If not, it is a front alone. To be said before it runs."""
        self.has_feeds = True
        """If not, it hears of others' loads by probes and answers alone. To be said before it runs."""
        boot_id, name = f"boot{number}", f"node{number:02}"
        self.swarm = Swarm(
            network,
            membership,
            Introduction(name, "1.0", boot_id),
            rng=rng,
            wall_clock=lambda: 1e9 + 3600.0 * (number % 3),
            standing=STANDING,
        )
        author = Author(identity_of(number), membership.credential)
        self.ledger = Ledger.open(None, author, membership.founder_public_key, boot_id)
        self.gated = GatedBackend(self.stub, self._stub_loads)
        self.prober = Prober(self.swarm, self.ledger, self.gated.loads, rng)
        self.replicator = Replicator(self.swarm, self.ledger, self.prober.is_doubtful, rng)
        self.view = SwarmView(self.ledger, self.prober, self.gated.loads)
        self.publisher = Publisher(
            self.ledger,
            name=name,
            role="worker",
            version="1.0",
            hardware={},
            addresses=lambda: [address.multiaddr for address in network.listen_addresses],
            models=lambda: (
                [ModelRecord(MODEL, "loaded", ("completion",), slots=4)] if self.has_worker else []
            ),
        )
        InferServer(self.gated.for_front, self.gated.load).attach(self.swarm)
        LoadFeedServer(self.gated).attach(self.swarm)
        self.feeds = LoadFeeds(self.swarm, self.prober.note_loads)
        self.front = Front(
            self.peer,
            self.view,
            local=self.gated if uses_own_worker else None,
            remote=partial(RemoteBackend, self.swarm, pulse=self.prober, rng=rng),
            feeds=self.feeds,
            rng=rng,
            on_load=self.prober.note_loads,
            on_peer_failure=self.prober.report_failure,
        )
        self.feeds.on_offer = self.front.note_offer
        self.scope = trio.CancelScope()

    def _stub_loads(self) -> dict[ModelName, Load]:
        return {MODEL: self.stub.load(MODEL)} if self.has_worker else {}

    async def run(self) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.ledger.run)
                await nursery.start(self.swarm.run)
                for part in (self.replicator, self.prober, self.view, self.gated, self.front):
                    nursery.start_soon(part.run)
                if self.has_feeds:
                    nursery.start_soon(self.feeds.run)
                signed = partial(self.swarm.add_addresses, origin=Origin.SIGNED)
                nursery.start_soon(follow_addresses, self.ledger, signed, self.swarm.forget)
                nursery.start_soon(self.publisher.run)

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

    def links(self) -> list[int]:
        """To how many others each is connected."""
        return [len(node.swarm.peers()) for node in self.nodes]

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
async def whole_swarm(
    hub: MemoryHub, count: int, seed: int, *, use_own_workers: bool = False
) -> AsyncIterator[WholeSwarm]:
    """`count` nodes that start at once and know where the first one is. Their dice fall as `seed` says."""
    async with trio.open_nursery() as nursery:
        networks = [
            await nursery.start(_keep_network, hub, identity_of(number).peer_id) for number in range(count)
        ]
        founded = _founded(networks[0].me)
        assert founded.invite is not None
        token = founded.token(founded.invite, networks[0].listen_addresses)
        memberships = [founded, *(join_swarm(token, network.me) for network in networks[1:])]
        nodes = [
            WholeNode(
                number, network, membership, Random(f"{seed}, {number}"), uses_own_worker=use_own_workers
            )
            for number, (network, membership) in enumerate(zip(networks, memberships, strict=True))
        ]
        for node in nodes:
            nursery.start_soon(node.run)
        yield WholeSwarm(hub, nodes)
        nursery.cancel_scope.cancel()


def identity_of(number: int) -> Identity:
    return Identity(bytes([3, number]) * 16)


def _founded(peer: PeerId) -> SwarmMembership:
    """`found_swarm` with the same keys each time: the order of many things is that of their hashes."""
    founder, own, shown = (Identity(bytes([number]) * 32) for number in (202, 203, 204))
    return SwarmMembership(
        "home",
        bytes(SECRET_SIZE),
        founder.public_key,
        Invite.issue(founder, own, "admin", NEVER).credential_for(peer),
        invite=Invite.issue(founder, shown, "worker", NEVER),
    )


async def _keep_network(hub: MemoryHub, peer: PeerId, *, task_status: trio.TaskStatus[MemoryNetwork]) -> None:
    async with hub.network(peer) as network:
        task_status.started(network)
        await trio.sleep_forever()
