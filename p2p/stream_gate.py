"""The gate before every protocol but hello: streams of admitted peers pass.

A peer may open streams the moment it has admitted us, which can be before we have
read its HELLO. Such a stream waits for our own decision, and is reset if that is no.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

import trio

from p2p.network import Network, PeerStream, StreamHandler
from p2p.peer import PeerId

_WAITING_MAX = 16
"""Streams of one peer: it may open one for each protocol at once, and some more. The rest is reset."""


@dataclass(slots=True)
class _Waiting:
    decided: trio.Event = field(default_factory=trio.Event)
    count: int = 0


class StreamGate:
    """Lets streams through to their handlers, once their peer is in `admitted`."""

    def __init__(self, network: Network, admitted: Container[PeerId], patience: float) -> None:
        self._network = network
        self._admitted = admitted
        self._patience = patience
        """Seconds until a decision must have come."""
        self._waiting: dict[PeerId, _Waiting] = {}

    def on_stream(self, protocol_id: str, handler: StreamHandler) -> None:
        """Answer streams of `protocol_id` with `handler`."""

        async def guarded(stream: PeerStream) -> None:
            if await self._passes(stream.peer):
                await handler(stream)
            else:
                await stream.reset()

        self._network.on_stream(protocol_id, guarded)

    def decided(self, peer: PeerId) -> None:
        """Whether `peer` is admitted is known now."""
        if peer in self._waiting:
            self._waiting[peer].decided.set()

    async def _passes(self, peer: PeerId) -> bool:
        if peer in self._admitted:
            return True
        waiting = self._waiting.setdefault(peer, _Waiting())
        if waiting.count >= _WAITING_MAX:
            return False
        waiting.count += 1
        try:
            with trio.move_on_after(self._patience):
                await waiting.decided.wait()
        finally:
            waiting.count -= 1
            if self._waiting.get(peer) is waiting and (not waiting.count or waiting.decided.is_set()):
                del self._waiting[peer]
        return peer in self._admitted
