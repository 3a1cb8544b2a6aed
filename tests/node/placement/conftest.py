"""Several homes on one memory network, whose models come and go without a byte of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from ledger.records import ModelName, ModelRecord, PlacementRecord
from ledger.view import NodeView
from node.errors import NodeError
from node.placement.absences import Absences
from node.placement.placer import Placer
from p2p.memory_network import MemoryHub
from p2p.peer import PeerId
from p2p.revision import Revision

GB = 10**9
TINY = ModelName("tiny")
SHA256 = "ab" * 32
FETCH_TIME = 20.0
"""Seconds that a model takes on its way."""


@dataclass
class Wishes:
    """What admins wrote, as all read it."""

    records: dict[ModelName, PlacementRecord] = field(default_factory=dict)
    withdrawn: set[ModelName] = field(default_factory=set)


@dataclass
class House:
    """One home: its models, and its opinion of the others. It is a view, placements and holdings."""

    me: PeerId
    wishes: Wishes
    others: list[House] = field(default_factory=list)
    """Itself too."""
    room: int = 100 * GB
    owned: dict[ModelName, str] = field(default_factory=dict)
    put_here: dict[ModelName, str] = field(default_factory=dict)
    missed: set[PeerId] = field(default_factory=set)
    fetches: int = 0
    given_up: list[ModelName] = field(default_factory=list)
    revision: Revision = field(default_factory=Revision)
    life: trio.CancelScope = field(default_factory=trio.CancelScope)

    def nodes(self) -> Sequence[NodeView]:
        return [
            NodeView(
                peer=house.me,
                name=house.me,
                state="offline" if house.me in self.missed else "online",
                role="worker",
                version="1",
                models=house.models(),
                models_size_max=house.room,
            )
            for house in self.others
        ]

    def models(self) -> tuple[ModelRecord, ...]:
        return tuple(
            ModelRecord(name, "cold", size_bytes=GB, sha256=sha256, is_placed=name in self.put_here)
            for name, sha256 in sorted({**self.put_here, **self.owned}.items())
        )

    def placement_records(self) -> Sequence[PlacementRecord]:
        return list(self.wishes.records.values())

    def is_withdrawn(self, model: ModelName) -> bool:
        return model in self.wishes.withdrawn

    def placed(self) -> Mapping[ModelName, str]:
        return self.put_here

    async def fetch(self, placement: PlacementRecord) -> None:
        self.fetches += 1
        await trio.sleep(FETCH_TIME)
        if not any(placement.model in {**house.owned, **house.put_here} for house in self.reachable()):
            raise NodeError("nobody has it")
        self.put_here[placement.model] = placement.sha256
        self.tell_all()

    async def give_up(self, model: ModelName) -> None:
        await trio.sleep(1)
        del self.put_here[model]
        self.given_up.append(model)
        self.tell_all()

    def reachable(self) -> list[House]:
        return [house for house in self.others if house.me not in self.missed]

    def tell_all(self) -> None:
        for house in self.others:
            house.revision.rise()


@dataclass
class Street:
    """All homes."""

    hub: MemoryHub
    houses: list[House]
    wishes: Wishes

    def want(self, placement: PlacementRecord) -> None:
        self.wishes.records[placement.model] = placement
        self.wishes.withdrawn.discard(placement.model)
        self.houses[0].tell_all()

    def withdraw(self, model: ModelName) -> None:
        del self.wishes.records[model]
        self.wishes.withdrawn.add(model)
        self.houses[0].tell_all()

    def miss(self, lost: House) -> None:
        """It is gone, and all others see it."""
        lost.life.cancel()
        for house in self.houses:
            if house is not lost:
                house.missed.add(lost.me)
                house.revision.rise()

    def holders(self, model: ModelName = TINY) -> list[House]:
        return [house for house in self.houses if model in house.put_here]


@asynccontextmanager
async def street(count: int) -> AsyncIterator[Street]:
    """`count` homes that are connected, see each other, and have nothing."""
    hub, wishes = MemoryHub(seed=1), Wishes()
    houses = [House(PeerId(f"house-{number}"), wishes) for number in range(count)]
    async with AsyncExitStack() as stack:
        networks = [await stack.enter_async_context(hub.network(house.me)) for house in houses]
        for number, network in enumerate(networks):
            for other in networks[number + 1 :]:
                await network.dial(other.listen_addresses[0])
        nursery = await stack.enter_async_context(trio.open_nursery())
        for house, network in zip(houses, networks, strict=True):
            house.others = houses
            placer = Placer(network, house, house, house, Absences())
            nursery.start_soon(_live, house, placer)
        yield Street(hub, houses, wishes)
        nursery.cancel_scope.cancel()


async def _live(house: House, placer: Placer) -> None:
    with house.life:
        await placer.run()


def on_a_street(count: int) -> Callable[[Callable[[Street], Awaitable[None]]], Callable[[], None]]:
    """A test with `count` homes, in virtual time."""

    def decorate(test: Callable[[Street], Awaitable[None]]) -> Callable[[], None]:
        async def main() -> None:
            async with street(count) as homes:
                await test(homes)

        def run() -> None:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

        return run

    return decorate
