"""Whole replicas on a memory network, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import trio

from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.replicate import Replicator
from p2p.memory_network import MemoryHub, MemoryNetwork
from p2p.network import Connected, PeerStream, StreamHandler
from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost
from tests.ledger.people import author, open_ledger

AUTHORS = sorted((author(number) for number in range(1, 13)), key=lambda one: one.peer)
"""By peer id, so that of two the first opens the stream."""
IDENTITIES = [each.identity for each in AUTHORS]


class EverybodyIsAMember:
    """A swarm that admits whoever is connected."""

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network
        self._events = PeerEvents()

    @property
    def me(self) -> PeerId:
        return self._network.me

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        return await self._network.open_stream(peer, protocol_id)

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        self._network.on_stream(protocol_id, handler)

    @contextmanager
    def subscribe(self) -> Iterator[PeerEvents]:
        yield self._events

    async def run(self) -> None:
        async for event in self._network.events:
            match event:
                case Connected(peer):
                    self._events.publish(PeerAdmitted(peer))
                case _:
                    self._events.publish(PeerLost(event.peer, announced=False, reason="test"))


class Replica:
    """One node's ledger and what spreads it."""

    def __init__(self, who: Author, network: MemoryNetwork, path: Path | None = None) -> None:
        self.network = network
        self.peer = who.peer
        self.ledger = open_ledger(who, path, boot_id=f"boot of {who.peer}")
        self._members = EverybodyIsAMember(network)
        self.replicator = Replicator(self._members, self.ledger, lambda _: False, Random(self.peer))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._members.run)
            nursery.start_soon(self.ledger.run)
            nursery.start_soon(self.replicator.run)

    async def meet(self, *others: Replica) -> None:
        for other in others:
            await self.network.dial(other.network.listen_addresses[0])


@asynccontextmanager
async def replicas(hub: MemoryHub, count: int, path: Path | None = None) -> AsyncIterator[list[Replica]]:
    """`count` running replicas that do not know each other yet; the last one keeps its ledger in `path`."""
    async with AsyncExitStack() as stack:
        made = []
        for number, who in enumerate(AUTHORS[:count], start=1):
            network = await stack.enter_async_context(hub.network(who.peer))
            made.append(Replica(who, network, path if number == count else None))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for replica in made:
            nursery.start_soon(replica.run)
        yield made
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool], among: Sequence[Replica]) -> None:
    """Wait for a change in any ledger of `among` after which `holds`."""
    async with trio.open_nursery() as nursery:

        async def watch(ledger: Ledger) -> None:
            with ledger.subscribe() as changes:
                while not holds():
                    await anext(changes)
            nursery.cancel_scope.cancel()

        for replica in among:
            nursery.start_soon(watch, replica.ledger)


def are_equal(among: Sequence[Replica]) -> bool:
    return len({replica.ledger.state.root_digest() for replica in among}) == 1
