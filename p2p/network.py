"""The network port: what the rest of the program may ask of a transport.

Two implementations: `libp2p_network.py` (real) and `memory_network.py` (one
process, with latency, loss and partitions). One contract suite runs on both.

    Network     raw: connections come and go, anyone with the swarm's secret may connect
       ^
    Swarm       what other folders hold (`swarm.py`): only peers that passed `hello`,
                reconnects by itself, says who came and who went

`Streams` is the part of both that protocols need, so a protocol can be tested
straight on a memory network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import trio

from p2p.peer import PeerAddress, PeerId


class PeerStream(trio.abc.HalfCloseableStream):
    """A two-way byte stream to one peer.

    `send_all` waits for room and may leave the stream unusable when cancelled, as
    trio's contract says. `receive_some` returns `b""` once, at the peer's end of
    sending. Both raise `trio.BrokenResourceError` when the stream was reset or the
    connection died, `trio.ClosedResourceError` after our own `aclose`.
    """

    peer: PeerId
    protocol_id: str

    async def receive_until(self, deadline: float, max_bytes: int) -> bytes | bytearray:
        """`receive_some`, which need not wait for longer than that.

        Raises:
          trio.TooSlowError: nothing came until `deadline`. The stream is as it was.
        """
        with trio.fail_at(deadline):
            return await self.receive_some(max_bytes)

    @abstractmethod
    async def reset(self) -> None:
        """Drop the stream at once in both directions; the peer sees it broken.

        The way to say "stop, whatever you were doing": unlike `aclose`, it waits
        for nothing that is still unsent.
        """


StreamHandler: TypeAlias = Callable[[PeerStream], Awaitable[None]]
"""Runs in a task of its own. Its stream is closed when it returns, and reset when it raises."""


class Streams(Protocol):
    """Open streams to peers, and answer theirs."""

    @property
    def me(self) -> PeerId:
        """Our own id."""

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        """A new stream to `peer`. Cancelled: nothing is left open.

        Raises:
          Unreachable: there is no connection, or it broke meanwhile.
          ProtocolNotSpoken: the peer does not speak `protocol_id`.
        """

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        """Answer streams of `protocol_id` with `handler` from now on."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The first connection to `peer` is up."""

    peer: PeerId
    is_dialled: bool = False
    """By us; of two that crossed, the first."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The last connection to `peer` is gone."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Rerouted:
    """New streams to `peer` go over another connection from now on, because two have crossed. The
    one before closes when its streams are done."""

    peer: PeerId


ConnectionEvent: TypeAlias = Connected | Disconnected | Rerouted


class Network(Streams, Protocol):
    """Connections to peers that hold the swarm's secret, and streams over them.

    One connection per pair is kept: of two that cross, the one dialled by the
    smaller peer id stays. Where it is the second, `Rerouted` is all that is seen of it.
    """

    @property
    def listen_addresses(self) -> Sequence[PeerAddress]:
        """Concrete addresses others can dial (never 0.0.0.0), LAN first, loopback last."""

    @property
    def events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        """What happened to connections, in order. One reader."""

    def open_protocols(self, peer: PeerId) -> Collection[str]:
        """What the streams with `peer` are for that it has not ended; "" where it has not said so yet."""

    async def dial(self, address: PeerAddress) -> None:
        """Connect to exactly this address; nothing happens if the peer is connected already.

        Gives up by itself on who is silent. Cancelled: no half-open connection is left.

        Raises:
          Unreachable: nobody, or somebody else, answers there.
        """

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to `peer`, if there is one. Its streams break."""
