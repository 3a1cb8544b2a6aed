"""One stream of a protocol to each member, kept open as long as the member is here.

The smaller peer id opens it, both use it. Opening takes round trips that a message on
an open stream does not, and its end tells at once that the peer is gone. A second
stream of one peer replaces the first. A peer that breaks the protocol loses its
stream, and gets another try later.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol, TypeAlias

import trio

from ledger.errors import BadEntry
from p2p.errors import BadFrame, Unreachable
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost

logger = logging.getLogger(__name__)

RETRY_DELAY = 0.5
"""Seconds until a stream that ended or could not be opened is tried again: its other end may just start."""
RETRY_DELAY_MAX = 30.0
"""The delay doubles up to this: a peer that does not speak the protocol, or breaks it, goes on so.
A stream that stood longer was a good one, and the next delay is short again."""

Talk: TypeAlias = Callable[[PeerId, FrameStream], Awaitable[None]]
"""Exchanges frames with a peer until they end. That they break, or break the protocol, is caught here."""


class Members(Streams, Protocol):
    """What we need of a swarm."""

    def subscribe(self) -> AbstractContextManager[PeerEvents]:
        """Who comes and goes, beginning with everybody who is here."""


class StandingStreams:
    """Runs `talk` on a stream to each member, at both ends: answers from now on, opens in `run`."""

    def __init__(
        self, members: Members, protocol_id: str, frame_size_max: int, talk: Talk, rng: Random
    ) -> None:
        self._members = members
        self._protocol_id = protocol_id
        self._frame_size_max = frame_size_max
        self._talk = talk
        self._rng = rng
        self._talks: dict[PeerId, trio.CancelScope] = {}
        members.on_stream(protocol_id, self._carry)

    async def run(self) -> None:
        """Keep a stream to each member with a larger id, until cancelled or until the swarm ends."""
        keepers: dict[PeerId, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery:
            with self._members.subscribe() as events:
                async for event in events:
                    match event:
                        case PeerAdmitted(peer) if self._members.me < peer:
                            keepers[peer] = trio.CancelScope()
                            nursery.start_soon(self._keep, peer, keepers[peer])
                        case PeerLost(peer) if peer in keepers:
                            keepers.pop(peer).cancel()
            nursery.cancel_scope.cancel()

    async def _keep(self, peer: PeerId, scope: trio.CancelScope) -> None:
        delay = RETRY_DELAY
        with scope:
            while True:
                begun = trio.current_time()
                try:
                    stream = await self._members.open_stream(peer, self._protocol_id)
                except Unreachable as error:
                    logger.debug("no stream of %s to %s yet: %s", self._protocol_id, peer, error)
                else:
                    async with stream:
                        await self._carry(stream)
                if trio.current_time() - begun > RETRY_DELAY_MAX:
                    delay = RETRY_DELAY
                # Uneven, so that two nodes which fail together do not stay in step.
                await trio.sleep(delay * self._rng.uniform(0.5, 1.0))
                delay = min(2 * delay, RETRY_DELAY_MAX)

    async def _carry(self, stream: PeerStream) -> None:
        """Talk over `stream` until it ends, whoever opened it."""
        peer = stream.peer
        if peer in self._talks:
            self._talks[peer].cancel()
        scope = self._talks[peer] = trio.CancelScope()
        try:
            with scope:
                await self._talk(peer, FrameStream(stream, self._frame_size_max))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the stream of %s to %s broke", self._protocol_id, peer)
        except* (BadFrame, BadEntry) as errors:
            logger.warning("%s broke %s: %s", peer, self._protocol_id, errors.exceptions[0])
            await stream.reset()
        finally:
            if self._talks.get(peer) is scope:
                del self._talks[peer]
