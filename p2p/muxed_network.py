"""The network port over any way to get a secured byte stream to a known peer.

    dial ----> _connect (the transport's own) --+
                                                +--> adopt --> one YamuxSession per connection
    listener of the transport ------------------+               |
                                                                +--> a task per stream of the peer's

`libp2p_network.py` and `memory_network.py` add only how bytes get there; whatever
protocols rely on (streams, negotiation, crossing dials, events) is here, once.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import trio

from p2p import multistream
from p2p.connection_table import ConnectionTable, Link
from p2p.errors import BadFrame, P2PError, ProtocolNotSpoken, Unreachable
from p2p.network import (
    Connected,
    ConnectionEvent,
    Disconnected,
    Network,
    PeerStream,
    Rerouted,
    StreamHandler,
)
from p2p.peer import PeerAddress, PeerId
from p2p.yamux import YamuxSession
from p2p.yamux_stream import YamuxStream

logger = logging.getLogger(__name__)

_EVENTS_MAX = 1024
"""Unread connection events; beyond it new connections are refused. Its one reader does little else."""
_NEGOTIATION_TIME_MAX = 10.0
"""Seconds a peer may take to say what its new stream is for; it needs one round trip."""
_RETIRED_LOOK_EVERY = 1.0
"""Seconds between looks at a retired connection. Also the grace for a peer that does not know yet."""

_EXPECTED = (P2PError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a handler may raise because of its peer: a matter for the log's lowest level."""


@dataclass(slots=True, eq=False)
class Connection(Link):
    """A connection and the session that runs on it."""

    session: YamuxSession


class MuxedNetwork(Network):
    """A `Network` whose transport is still to be said. `_run` owns all of its tasks."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._handlers: dict[str, StreamHandler] = {}
        self._table: ConnectionTable[Connection] = ConnectionTable(me)
        self._dials: dict[PeerId, trio.Event] = {}
        # Never full, so saying what happened never waits; `takes_connections` keeps it short.
        self._events_in, self._events_out = trio.open_memory_channel[ConnectionEvent](math.inf)
        self._nursery: trio.Nursery
        self._is_running = False

    @property
    def me(self) -> PeerId:
        return self._me

    @property
    @abstractmethod
    def listen_addresses(self) -> Sequence[PeerAddress]: ...

    @property
    def events(self) -> trio.MemoryReceiveChannel[ConnectionEvent]:
        return self._events_out

    @abstractmethod
    async def _connect(self, address: PeerAddress) -> trio.abc.Stream:
        """A secured stream to the peer at `address`, which proved that it is that peer.

        Raises:
          Unreachable: as `dial`.
        """

    @property
    def takes_connections(self) -> bool:
        """It runs, and somebody reads its events."""
        return self._is_running and self._events_out.statistics().current_buffer_used < _EVENTS_MAX

    def open_protocols(self, peer: PeerId) -> Collection[str]:
        return {
            protocol for connection in self._table.all_of(peer) for protocol in connection.session.protocols()
        }

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        self._handlers[protocol_id] = handler

    async def dial(self, address: PeerAddress) -> None:
        peer = address.peer
        if peer == self._me:
            raise Unreachable("that is this node itself")
        # One dial per peer at a time: two connections the same way would look to the
        # peer as if we had lost the first.
        while peer in self._dials:
            await self._dials[peer].wait()
        if self._table.current(peer):
            await trio.lowlevel.checkpoint()
            return
        self._dials[peer] = trio.Event()
        try:
            transport = await self._connect(address)
            if not self.takes_connections:
                await trio.aclose_forcefully(transport)
                raise Unreachable("this node takes no connections now")
            self._adopt(transport, peer, is_dialled=True)
        finally:
            self._dials.pop(peer).set()

    async def open_stream(self, peer: PeerId, protocol_id: str) -> PeerStream:
        connection = self._table.current(peer)
        if connection is None:
            raise Unreachable(f"there is no connection to {peer}")
        stream = connection.session.open_stream()
        stream.protocol_id = protocol_id
        is_agreed = False
        try:
            await multistream.propose(stream, protocol_id)
            is_agreed = True
        except ProtocolNotSpoken as error:
            raise ProtocolNotSpoken(f"{peer} does not speak {protocol_id}") from error
        except (trio.BrokenResourceError, BadFrame) as error:
            raise Unreachable(f"the connection to {peer} broke: {error}") from error
        finally:
            if not is_agreed:
                stream.drop()
        return stream

    async def disconnect(self, peer: PeerId) -> None:
        async with trio.open_nursery() as nursery:
            for connection in self._table.all_of(peer):
                nursery.start_soon(connection.session.aclose)
        await trio.lowlevel.checkpoint()

    async def _run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own every connection and every stream handler until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._is_running = True
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._is_running = False

    def _adopt(self, transport: trio.abc.Stream, peer: PeerId, *, is_dialled: bool) -> YamuxSession:
        """Make `transport`, which is now ours, a connection to `peer`.

        Waits for nothing, so a cancelled dial either made a connection and said so, or did not.
        """
        session = YamuxSession(transport, peer, is_initiator=is_dialled, on_stream=self._on_stream)
        connection = Connection(peer, is_dialled, trio.current_time(), session)
        placement, other = self._table.add(connection)
        self._nursery.start_soon(self._carry, connection)
        if placement == "replacing" and other is not None:
            self._nursery.start_soon(other.session.aclose)
            self._events_in.send_nowait(Disconnected(peer))
        if placement == "crossing" and other is not None and other.is_dialled:
            # Its dialler closes it; the other end only stops using it.
            self._nursery.start_soon(self._retire, other)
        if placement != "crossing":
            self._events_in.send_nowait(Connected(peer, is_dialled))
        elif other is not connection:
            self._events_in.send_nowait(Rerouted(peer))
        return session

    async def _carry(self, connection: Connection) -> None:
        try:
            await connection.session.run()
        except Exception:
            # Whatever a peer found to upset us with, it has lost its connection and nobody else has.
            logger.exception("connection to %s failed", connection.peer)
        finally:
            if self._table.remove(connection):
                self._events_in.send_nowait(Disconnected(connection.peer))

    async def _retire(self, connection: Connection) -> None:
        session = connection.session
        is_idle = False
        while not (is_idle or session.ended.is_set()):
            with trio.move_on_after(_RETIRED_LOOK_EVERY):
                await session.ended.wait()
            is_idle = session.stream_count == 0
        await session.aclose()

    def _on_stream(self, stream: YamuxStream) -> None:
        self._nursery.start_soon(self._answer, stream)

    async def _answer(self, stream: YamuxStream) -> None:
        """Run the handler of the protocol that the peer opened `stream` for."""
        is_done = False
        try:
            with trio.fail_after(_NEGOTIATION_TIME_MAX):
                stream.protocol_id = await multistream.answer(stream, self._handlers)
            await self._handlers[stream.protocol_id](stream)
            is_done = True
        except (*_EXPECTED, trio.TooSlowError) as error:
            logger.debug("stream of %s from %s ended: %r", stream.protocol_id, stream.peer, error)
        except Exception as error:
            # One handler's fault must not end the others: it costs its own stream only.
            if not isinstance(error, ExceptionGroup) or error.split(_EXPECTED)[1]:
                logger.exception("handler of %s failed, peer %s", stream.protocol_id, stream.peer)
        finally:
            if is_done:
                await stream.aclose()
            else:
                stream.drop()
