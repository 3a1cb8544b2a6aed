"""One stream of a protocol to each member, kept open as long as the member is here.

The smaller peer id opens it, both use it. Opening takes round trips that a message on
an open stream does not, and its end tells at once that the peer is gone.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol

import trio

from p2p.errors import Unreachable
from p2p.network import StreamHandler, Streams
from p2p.peer import PeerId
from p2p.peer_events import PeerAdmitted, PeerEvents, PeerLost

_log = logging.getLogger(__name__)

RETRY_DELAY = 0.5
"""Seconds until a stream that ended or could not be opened is tried again: its other end may just start."""
RETRY_DELAY_MAX = 30.0
"""The delay doubles up to this: a peer that does not speak the protocol keeps not speaking it."""


class Members(Streams, Protocol):
    """What we need of a swarm."""

    def subscribe(self) -> AbstractContextManager[PeerEvents]:
        """Who comes and goes, beginning with everybody who is here."""


class StandingStreams:
    """Runs `talk` on a stream to each member, at both ends: answers from now on, opens in `run`.

    `talk` is cancelled when its member is lost, and must not raise for its peer's sake.
    """

    def __init__(self, members: Members, protocol_id: str, talk: StreamHandler, rng: Random) -> None:
        self._members = members
        self._protocol_id = protocol_id
        self._talk = talk
        self._rng = rng
        members.on_stream(protocol_id, talk)

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
                try:
                    stream = await self._members.open_stream(peer, self._protocol_id)
                except Unreachable as error:
                    _log.debug("no stream of %s to %s yet: %s", self._protocol_id, peer, error)
                    delay = min(2 * delay, RETRY_DELAY_MAX)
                else:
                    delay = RETRY_DELAY
                    async with stream:
                        await self._talk(stream)
                # Uneven, so that two nodes which fail together do not stay in step.
                await trio.sleep(delay * self._rng.uniform(0.5, 1.0))
