"""The channels to all seeders: opened for the first fetch that uses one, closed after the last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from p2p.blobs.fetch_pace import FetchPace
from p2p.blobs.peer_bytes import PeerBytes
from p2p.blobs.peer_channel import PeerChannel
from p2p.network import Streams
from p2p.peer import PeerId


@dataclass(slots=True)
class _Shared:
    channel: PeerChannel
    users: int = 0


class PeerChannels:
    """One to each peer. Their tasks live in `run`."""

    def __init__(self, streams: Streams, pace: FetchPace) -> None:
        self.received = PeerBytes()
        """Bytes of chunks that each peer sent, those included that were of no use."""
        self._streams = streams
        self._pace = pace
        self._shared: dict[PeerId, _Shared] = {}
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()

    async def run(self) -> None:
        """Carry all channels until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._started.set()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def started(self) -> None:
        """Return when `run` runs."""
        await self._started.wait()

    @contextmanager
    def use(self, peer: PeerId) -> Iterator[PeerChannel]:
        """The channel to `peer`. It may be opening still, and may end at any time. Only while `run` runs."""
        assert self._nursery is not None, "the channels are not carried"
        shared = self._shared.get(peer)
        if shared is None or shared.channel.ended.is_set():
            shared = self._shared[peer] = _Shared(PeerChannel(peer, self._pace, self.received))
            self._nursery.start_soon(shared.channel.run, self._streams)
        shared.users += 1
        try:
            yield shared.channel
        finally:
            shared.users -= 1
            if not shared.users:
                shared.channel.close()
                if self._shared.get(peer) is shared:
                    del self._shared[peer]
