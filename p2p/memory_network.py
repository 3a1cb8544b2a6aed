"""The network port in one process: whole swarms without sockets, with any weather.

    hub = MemoryHub(seed=7, quality=LinkQuality(latency=0.01, loss=0.01))
    async with hub.network(alice, secret) as a, hub.network(bob, secret) as b:
        await a.dial(b.listen_addresses[0])
        hub.partition([alice], [bob])

Under trio's `MockClock(autojump_threshold=0)` hours pass in no time, and all weather is
drawn from one seed. Peers with different secrets cannot connect, as in a private network.

Faults: `cut` and `partition` stop bytes (both ends keep waiting, as over a pulled
cable), `freeze` does so for all of one peer (SIGSTOP), `kill` ends a peer without a
word while its machine closes its sockets (SIGKILL), `power_off` leaves them silent.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random

import trio

from p2p.connection_table import DIAL_TIME_MAX
from p2p.errors import Unreachable
from p2p.memory_link import LinkQuality, MemoryCableEnd, MemoryWire
from p2p.muxed_network import MuxedNetwork
from p2p.peer import PeerAddress, PeerId


class MemoryHub:
    """Everything between the networks of one process."""

    def __init__(self, *, seed: int = 0, quality: LinkQuality | None = None) -> None:
        self.quality = quality or LinkQuality()
        self._rng = Random(seed)  # noqa: S311  weather, not secrets
        self._networks: dict[str, MemoryNetwork] = {}
        self._cuts: set[tuple[PeerId, PeerId]] = set()
        self._frozen: set[PeerId] = set()
        # A dict for its order: with a set, one seed would tell two stories.
        self._wires: dict[MemoryWire, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def network(
        self, peer: PeerId, secret: bytes = b"", *, multiaddr: str | None = None
    ) -> AsyncIterator[MemoryNetwork]:
        """A running network for `peer`. Leaving closes its connections.

        It listens on `multiaddr` (`/memory/...`), or on the next one that nobody ever had.
        """
        address = PeerAddress(peer, multiaddr or f"/memory/{next(self._numbers)}")
        assert address.multiaddr not in self._networks, "somebody listens there"
        network = MemoryNetwork(self, address, secret)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            self._networks[address.multiaddr] = network
            try:
                yield network
            finally:
                if self._networks.get(address.multiaddr) is network:
                    del self._networks[address.multiaddr]
                nursery.cancel_scope.cancel()

    def cut(self, source: PeerId, target: PeerId) -> None:
        """Hold what `source` sends to `target`; the other direction stays as it is."""
        self._cuts.add((source, target))
        self._wake_all()

    def partition(self, left: Iterable[PeerId], right: Iterable[PeerId]) -> None:
        """Hold everything between two groups."""
        for a, b in itertools.product(left, tuple(right)):
            self._cuts |= {(a, b), (b, a)}
        self._wake_all()

    def heal(self) -> None:
        """Undo every cut; what was held arrives."""
        self._cuts.clear()
        self._wake_all()

    def freeze(self, peer: PeerId) -> None:
        """Hold everything from and to `peer`, as if its process were stopped."""
        self._frozen.add(peer)
        self._wake_all()

    def thaw(self, peer: PeerId) -> None:
        """Let a frozen peer go on."""
        self._frozen.discard(peer)
        self._wake_all()

    def kill(self, peer: PeerId) -> None:
        """End `peer` without a word. Its network can do nothing any more; others see it break."""
        for address, network in list(self._networks.items()):
            if network.me == peer:
                del self._networks[address]
                network.stop()

    def power_off(self, peer: PeerId) -> None:
        """End `peer` and its machine: nothing is seen of it, then or ever."""
        for wire in self._wires:
            if peer in wire.ends:
                wire.silence()
        self.kill(peer)

    def is_open(self, source: PeerId, target: PeerId) -> bool:
        """Whether bytes move from `source` to `target` now."""
        return (source, target) not in self._cuts and not self._frozen & {source, target}

    def delay(self) -> float:
        return self.quality.delay(self._rng)

    def forget(self, wire: MemoryWire) -> None:
        self._wires.pop(wire, None)

    async def connect(self, caller: MemoryNetwork, address: PeerAddress) -> MemoryCableEnd:
        """The caller's end of a new cable to `address`; who listens there has the other.

        Raises:
          Unreachable: nobody answers in time, or not the peer with that id and our secret.
        """
        with trio.move_on_after(DIAL_TIME_MAX) as patience:
            # One round trip for TCP's handshake, one for Noise's.
            for source, target in [(caller.me, address.peer), (address.peer, caller.me)] * 2:
                while not self.is_open(source, target):
                    await self._changed.park()
                await trio.sleep(self.delay())
        if patience.cancelled_caught:
            raise Unreachable(f"{address} is silent")
        listener = self._networks.get(address.multiaddr)
        if listener is None or not listener.takes_connections or self._rng.random() < self.quality.dial_loss:
            raise Unreachable(f"nobody answers at {address}")
        if listener.me != address.peer:
            raise Unreachable(f"{listener.me} answers at {address}")
        if listener.secret != caller.secret:
            raise Unreachable(f"{address} is in another private network")
        there, back = MemoryWire(self, caller.me, address.peer), MemoryWire(self, address.peer, caller.me)
        self._wires |= {there: None, back: None}
        listener.accept(MemoryCableEnd(back, there), caller.me)
        return MemoryCableEnd(there, back)

    def _wake_all(self) -> None:
        self._changed.unpark_all()
        for wire in self._wires:
            wire.wake()


class MemoryNetwork(MuxedNetwork):
    """One peer's network on a `MemoryHub`, which makes it."""

    def __init__(self, hub: MemoryHub, address: PeerAddress, secret: bytes) -> None:
        super().__init__(address.peer)
        self.address = address
        self.secret = secret
        self._hub = hub
        self._scope = trio.CancelScope()

    @property
    def listen_addresses(self) -> Sequence[PeerAddress]:
        return (self.address,)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own all connections until cancelled or stopped."""
        with self._scope:
            await self._run(task_status=task_status)

    def stop(self) -> None:
        """End everything at once, as the end of its process would."""
        self._scope.cancel()

    def accept(self, transport: MemoryCableEnd, caller: PeerId) -> None:
        """Take the other end of a cable that `caller` laid."""
        self._adopt(transport, caller, is_dialled=False)

    async def _connect(self, address: PeerAddress) -> trio.abc.Stream:
        return await self._hub.connect(self, address)
