"""The control streams of a swarm: what comes on them are events, what the door orders goes out.

A stream has a number, because a peer may have a second before its first has ended.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from p2p.admission_events import (
    AddressesReceived,
    ByeReceived,
    ControlEnded,
    ControlId,
    ControlOpened,
    Event,
    HelloReceived,
    RuleBroken,
)
from p2p.control_stream import ControlStream
from p2p.errors import Unreachable
from p2p.hello import PROTOCOL_ID, Addresses, Bye, Hello, Message
from p2p.network import Network, PeerStream
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_GOODBYE_TIME_MAX: Final = 1.0
"""Seconds for a peer to read our goodbye and hang up. It takes a round trip; a frozen one never does."""


class Controls:
    """All open control streams. What happens on them goes to `handle`."""

    def __init__(
        self, network: Network, handle: Callable[[Event], None], wall_clock: Callable[[], float]
    ) -> None:
        self._network = network
        self._handle = handle
        self._wall_clock = wall_clock
        self._streams: dict[ControlId, ControlStream] = {}
        self._numbers = itertools.count(1)

    async def open(self, peer: PeerId) -> None:
        """Open a control stream to `peer`, and carry it until it ends."""
        try:
            stream = await self._network.open_stream(peer, PROTOCOL_ID)
        except Unreachable as error:
            logger.debug("no control stream to %s: %s", peer, error)
            self._handle(ControlEnded(peer, None))
        else:
            await self.carry(stream)

    async def carry(self, stream: PeerStream) -> None:
        """Carry one control stream, whoever opened it, until it ends."""
        peer, control = stream.peer, ControlId(next(self._numbers))
        self._streams[control] = ControlStream(stream)
        self._handle(ControlOpened(peer, control))
        try:
            await self._streams[control].run(
                partial(self._on_message, peer, control),
                lambda rule: self._handle(RuleBroken(peer, control, rule)),
            )
            self._handle(ControlEnded(peer, control))
        finally:
            del self._streams[control]

    def post(self, control: ControlId, message: Message) -> None:
        """Send `message` on `control`, unless it has ended."""
        if control in self._streams:
            self._streams[control].post(message)

    def drop(self, control: ControlId) -> None:
        """End `control` now."""
        if control in self._streams:
            self._streams[control].drop()

    async def disconnect(self, peer: PeerId, control: ControlId | None, bye: Bye | None) -> None:
        """Close the connection to `peer`, which gets a moment to read the goodbye and close it itself."""
        stream = self._streams.get(control) if control is not None else None
        if stream is not None and bye is not None:
            stream.post(bye)
            with trio.move_on_after(_GOODBYE_TIME_MAX):
                await stream.ended.wait()
            stream.drop()
        await self._network.disconnect(peer)

    async def all_ended(self) -> None:
        """Return when every goodbye was read, in a bounded time."""
        with trio.move_on_after(2 * _GOODBYE_TIME_MAX):
            for stream in list(self._streams.values()):
                await stream.ended.wait()

    def _on_message(self, peer: PeerId, control: ControlId, message: Message) -> None:
        match message:
            case Hello():
                self._handle(HelloReceived(peer, control, message, self._wall_clock()))
            case Addresses(addresses):
                self._handle(AddressesReceived(peer, control, addresses))
            case Bye():
                self._handle(ByeReceived(peer, control, message))
