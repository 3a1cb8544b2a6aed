"""One fetch of one file: `fetch.py` carried out over channels to its seeders.

    seeders that there are --> a keeper each: follows the file over the peer's channel, tries again later
    chunks that came --------> a task each: hash compared in a thread, then written to the sink

Each event is decided the moment it is seen, by whichever task sees it. Deciding never awaits, so there is no
lock and no queue.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from p2p.blobs.blob_messages import Gained, Have, NoFile
from p2p.blobs.errors import BadHaveMap, SinkFailed, SinkFull
from p2p.blobs.fetch import Fetch
from p2p.blobs.fetch_events import (
    Ask,
    BytesArrived,
    Cancel,
    ChunkArrived,
    ChunksLost,
    ChunkStored,
    ChunkWrong,
    DropSeeder,
    Event,
    HashesKnown,
    LateBytesArrived,
    SeederGained,
    SeederLost,
    SeederOffered,
    TimerFired,
)
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, hash_chunk
from p2p.blobs.peer_channel import PeerChannel
from p2p.blobs.peer_channels import PeerChannels
from p2p.blobs.sink import ChunkSink
from p2p.errors import BadFrame
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

SEEDERS_MAX = 16
"""Peers followed at once: each tells of every chunk it gains, and a few fill any line. Others wait for a
place, in an order by chance, so that not everybody runs to the same ones. Only the origin needs none: without
the hashes that it tells nobody else is of use."""
PLACE_TIME = 30.0
"""Seconds in which a peer has to give a chunk, or one that waits gets its place: that may have what is
missing. As long as silence is borne with, and as a peer that has nothing is left alone."""
RETRY_DELAY, RETRY_DELAY_MAX = 1.0, 30.0
"""Seconds until a peer that has nothing, cannot be reached, or is banned, is looked at again, doubled each
time."""
_TELL_INTERVAL = 0.25
"""Seconds between two reports of progress: as often as a person sees it move."""

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a function that takes milliseconds where it holds nobody up: `trio.to_thread.run_sync`."""

    async def __call__(self, function: Callable[[*Ts], T], /, *args: *Ts) -> T: ...


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is."""

    size_bytes: int
    stored_bytes: int
    """Checked and written, whenever that was."""
    received_bytes: Mapping[PeerId, int]
    """From each peer in this fetch, what is under way and what was of no use included."""
    wasted_bytes: int
    """Of those, what was of no use."""
    waiting: str
    """For a person: why nothing comes. Empty while something does."""


@dataclass(frozen=True, slots=True)
class _Followed:
    """A peer that is being followed."""

    channel: PeerChannel
    scope: trio.CancelScope
    """Its end ends the following, for now."""


class FileFetch:
    """Fetches `file` into `sink` in `run`, once."""

    def __init__(
        self,
        file: FetchedFile,
        sink: ChunkSink,
        channels: PeerChannels,
        me: PeerId,
        rng: Random,
        *,
        run_blocking: RunBlocking,
        may_use: Callable[[PeerId], bool],
        on_progress: Callable[[FetchProgress], None],
    ) -> None:
        """`may_use`: whether anything is to be fetched from a peer."""
        self._file = file
        self._sink = sink
        self._channels = channels
        self._rng = rng
        self._run_blocking = run_blocking
        self._may_use = may_use
        self._on_progress = on_progress
        self._fetch = Fetch(file.size_bytes, sink.have, me, rng)
        self._seeders: set[PeerId] = set()
        """All that are to be used."""
        self._keepers: dict[PeerId, trio.CancelScope] = {}
        """A task each, which follows it or waits to try again."""
        self._followed: dict[PeerId, _Followed] = {}
        self._places = trio.Semaphore(SEEDERS_MAX)
        self._received: Counter[PeerId] = Counter()
        self._failure: SinkFull | SinkFailed | None = None
        self._nursery: trio.Nursery
        self._sleeps_until = 0.0
        self._is_due_earlier = trio.Event()
        self._told_at = 0.0

    async def run(self, seeders: AsyncIterable[Collection[PeerId]]) -> None:
        """Return when the file is there, with its sha256 known. `seeders`: all peers to fetch from, and again
        when they have changed. Cancelled: what is in the sink stays, and no peer is asked for anything more.

        Raises:
          SinkFull, SinkFailed: a chunk could not be written.
        """
        async with trio.open_nursery() as self._nursery:
            self._tell(HashesKnown(self._file.known(self._sink.have.missing())))
            if not self._is_over():
                self._nursery.start_soon(self._follow_seeders, seeders)
                self._nursery.start_soon(self._keep_time)
        if self._failure is not None:
            raise self._failure

    def bound(self, under_way_max: int) -> None:
        """From now on ask for something only while fewer chunks than that are under way."""
        self._fetch.under_way_max = under_way_max

    def progress(self) -> FetchProgress:
        """How far it is now."""
        have, waiting = self._sink.have, self._fetch.why_waiting(trio.current_time())
        stored_bytes = have.count * CHUNK_SIZE
        if (last := have.chunk_count - 1) in have:
            stored_bytes += self._file.chunk_size(last) - CHUNK_SIZE
        if self._fetch.is_done and not self._file.sha256:
            waiting = "the origin has not told the file's sha256 yet"
        return FetchProgress(
            self._file.size_bytes, stored_bytes, dict(self._received), self._fetch.wasted_bytes, waiting
        )

    def on_offer(self, peer: PeerId, said: Have | Gained | NoFile) -> None:
        """As `Follower`."""
        match said:
            case Have(size_bytes=size_bytes) if size_bytes != self._file.size_bytes:
                logger.warning("%s has another file by the name of %s", peer, self._file.key)
                self._followed[peer].scope.cancel()
            case Have(bits=bits, sha256=sha256):
                try:
                    has = HaveMap.from_bytes_untrusted(bits, self._file.chunk_count)
                except BadHaveMap as error:
                    raise BadFrame(str(error)) from error
                if peer == self._file.origin and not self._file.sha256:
                    self._file.sha256 = sha256
                self._tell(SeederOffered(peer, has))
            case Gained(chunks=chunks):
                if chunks and max(chunks) >= self._file.chunk_count:
                    raise BadFrame(f"chunk {max(chunks)} of {self._file.chunk_count}")
                self._tell(SeederGained(peer, chunks))
                if peer == self._file.origin and (learned := self._file.learn(said)):
                    self._tell(HashesKnown(learned))
            case NoFile():
                self._followed[peer].scope.cancel()

    def on_event(self, event: Event) -> None:
        """As `Follower`."""
        if isinstance(event, BytesArrived | LateBytesArrived):
            self._received[event.peer] += event.size_bytes
        self._tell(event)
        if trio.current_time() >= self._told_at + _TELL_INTERVAL:
            self._tell_progress()

    def on_chunk(self, peer: PeerId, chunk: int, pieces: list[bytes]) -> None:
        """As `Follower`."""
        self._tell(ChunkArrived(peer, chunk))
        self._nursery.start_soon(self._store, peer, chunk, pieces)

    def _tell(self, event: Event) -> None:
        for effect in self._fetch.handle(event, trio.current_time()):
            match effect:
                case Ask(peer, chunk):
                    self._followed[peer].channel.request(self._file.key, chunk, self._file.chunk_size(chunk))
                case Cancel(peer, chunk):
                    self._followed[peer].channel.cancel(self._file.key, chunk)
                case DropSeeder(peer):
                    self._drop(peer)
        if self._fetch.is_done and not self._sink.have.is_full:
            lost = list(self._sink.have.missing())
            self._tell(ChunksLost(lost))
            self._tell(HashesKnown(self._file.known(lost)))
        if self._fetch.wake_at < self._sleeps_until:
            self._is_due_earlier.set()
        if self._is_over():
            self._nursery.cancel_scope.cancel()

    def _is_over(self) -> bool:
        return self._fetch.is_done and bool(self._file.sha256)

    def _drop(self, peer: PeerId) -> None:
        logger.warning("%s sent a wrong chunk of %s", peer, self._file.key)
        self._file.dropped.add(peer)
        self._seeders.discard(peer)
        if peer in self._keepers:
            self._keepers[peer].cancel()

    async def _store(self, peer: PeerId, chunk: int, pieces: list[bytes]) -> None:
        found = await self._run_blocking(hash_chunk, *pieces)
        if found != self._file.chunk_hash(chunk):
            self._tell(ChunkWrong(peer, chunk))
            return
        try:
            await self._sink.write(chunk, pieces)
        except (SinkFull, SinkFailed) as error:
            self._failure = error
            self._nursery.cancel_scope.cancel()
            return
        self._tell(ChunkStored(chunk))
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._told_at = trio.current_time()
        self._on_progress(self.progress())

    async def _keep_time(self) -> None:
        while True:
            self._is_due_earlier = trio.Event()
            self._sleeps_until = self._fetch.wake_at
            with trio.move_on_at(self._sleeps_until) as timer:
                await self._is_due_earlier.wait()
            if timer.cancelled_caught:
                self._tell(TimerFired())
                self._tell_progress()

    async def _follow_seeders(self, seeders: AsyncIterable[Collection[PeerId]]) -> None:
        async for peers in seeders:
            self._seeders = set(peers) - self._file.dropped
            for peer, scope in self._keepers.items():
                if peer not in self._seeders:
                    scope.cancel()
            new = sorted(self._seeders - set(self._keepers))
            for peer in self._rng.sample(new, len(new)):
                self._keepers[peer] = trio.CancelScope()
                self._nursery.start_soon(self._keep, peer)
            self._tell_progress()

    async def _keep(self, peer: PeerId) -> None:
        """Fetch from `peer`, whenever it has something, for as long as it is to be used."""
        try:
            # Not to be used, and to be used again, it may have become before this task saw it.
            while peer in self._seeders:
                with trio.CancelScope() as self._keepers[peer]:
                    await self._try(peer)
        finally:
            del self._keepers[peer]

    async def _try(self, peer: PeerId) -> None:
        """Follow `peer` again and again, except while it is banned."""
        delay = RETRY_DELAY
        while True:
            if self._may_use(peer):
                async with contextlib.nullcontext() if peer == self._file.origin else self._places:
                    if await self._follow(peer):
                        delay = RETRY_DELAY
            # Uneven, so that those who lost a peer together do not come back together.
            await trio.sleep(delay * self._rng.uniform(0.5, 1.0))
            delay = min(2 * delay, RETRY_DELAY_MAX)

    async def _follow(self, peer: PeerId) -> bool:
        """Follow the file until `peer`, or its channel, has no more of it, or its place is better given to
        another one. Whether it gave a chunk."""
        received = self._received[peer]
        with self._channels.use(peer) as channel, trio.CancelScope() as scope:
            self._followed[peer] = _Followed(channel, scope)
            channel.follow(self._file.key, self, with_hashes=peer == self._file.origin)
            try:
                await self._until_useless(peer, channel)
            finally:
                self._tell(SeederLost(peer))
                del self._followed[peer]
                channel.unfollow(self._file.key)
        return self._received[peer] >= received + CHUNK_SIZE

    async def _until_useless(self, peer: PeerId, channel: PeerChannel) -> None:
        while not channel.ended.is_set():
            received = self._received[peer]
            with trio.move_on_after(PLACE_TIME):
                await channel.ended.wait()
            is_useless = self._received[peer] < received + CHUNK_SIZE and peer != self._file.origin
            if is_useless and self._places.statistics().tasks_waiting:
                return
