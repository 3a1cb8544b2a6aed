"""Who came and who went: what a subscriber to the swarm's members is told.

    with swarm.subscribe() as events:
        async for event in events:          # first PeerAdmitted of everybody already here
            match event: ...

A subscriber always ends up with the truth, however slowly it reads, and costs
at most two events per peer: an admission it had not read when the peer went
is never told at all. So per peer it sees PeerAdmitted, PeerLost, PeerAdmitted, ...
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import trio

from p2p.credential import InviteId, Role
from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class Member:
    """One admitted peer, as it described itself and as its credential allows."""

    peer: PeerId
    name: str
    version: str
    """Of the program."""
    boot_id: str
    """New at each start of its process."""
    role: Role
    """What it may do here, proved by its credential."""
    invites: tuple[InviteId, ...]
    """The links of that credential, the founder's first."""
    addresses: tuple[str, ...]
    """Multiaddrs it says it listens on, without `/p2p/`."""


@dataclass(frozen=True, slots=True)
class PeerAdmitted:
    """Streams to and from `peer` are possible from now on."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection to `peer` is gone."""

    peer: PeerId
    announced: bool
    """It, or we, said goodbye first. If not, the loss is evidence that the peer has died."""
    reason: str
    """The word of the goodbye (`leave`, `away`, ...), or what was seen, for a person."""
    is_leaving: bool = False
    """It said that it goes. An announced loss without that says nothing of the peer: of the two of us,
    one has links enough, or did not want this one."""


PeerEvent: TypeAlias = PeerAdmitted | PeerLost


class PeerEvents:
    """One subscriber's events, in order. One reader; ends when the swarm does."""

    def __init__(self) -> None:
        self._pending: deque[PeerEvent] = deque()
        self._arrived = trio.Event()
        self._closed = False

    def __aiter__(self) -> PeerEvents:
        return self

    async def __anext__(self) -> PeerEvent:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> PeerEvent:
        """The next event. Cancelled: no event is lost.

        Raises:
          trio.EndOfChannel: the swarm has ended, and everything was read.
        """
        while not self._pending:
            if self._closed:
                raise trio.EndOfChannel
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._pending.popleft()

    def publish(self, event: PeerEvent) -> None:
        """Tell the subscriber. Never waits: see above for what keeps this bounded."""
        unread = PeerAdmitted(event.peer)
        if isinstance(event, PeerLost) and unread in self._pending:
            self._pending.remove(unread)
        else:
            self._pending.append(event)
            self._arrived.set()

    def close(self) -> None:
        """No more events will come."""
        self._closed = True
        self._arrived.set()
