"""The fetcher: gets files and manifests from peers, each from everybody who has it at once.

    fetcher = Fetcher(streams, reputation, rng, wall_clock=time.time, is_inference_busy=worker.is_busy)
    nursery.start_soon(fetcher.run)
    manifest = await fetcher.fetch_manifest(record.manifest, peers)
    await fetcher.fetch_file(FetchedFile.of_manifest(manifest.files[0]), sink, peers_as_they_change)

What one file's fetch does: `file_fetch.py`. All that is fetched from one peer goes over one stream to it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from random import Random

import trio

from p2p.blobs.blob_messages import Gained, Have, NoFile
from p2p.blobs.errors import BadManifest, NobodyHasIt
from p2p.blobs.fetch_events import UNDER_WAY_MAX, Event
from p2p.blobs.fetch_pace import FetchPace
from p2p.blobs.fetched_file import FetchedFile
from p2p.blobs.file_fetch import FetchProgress, FileFetch, RunBlocking
from p2p.blobs.manifest import FileKey, Manifest, ManifestId, decode_manifest_untrusted
from p2p.blobs.peer_bytes import PeerBytes
from p2p.blobs.peer_channels import PeerChannels
from p2p.blobs.reputation import Reputation
from p2p.blobs.sink import ChunkSink
from p2p.network import Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

ANSWER_TIME_MAX = 20.0
"""Seconds for one peer to send a manifest, or say what it has of a file: the largest is 16 MiB, which a poor
Wi-Fi carries in eight."""


class Fetcher:
    """All fetches of a node. Their streams live in `run`."""

    def __init__(
        self,
        streams: Streams,
        reputation: Reputation,
        rng: Random,
        *,
        wall_clock: Callable[[], float],
        is_inference_busy: Callable[[], bool],
        run_blocking: RunBlocking = trio.to_thread.run_sync,
    ) -> None:
        """`wall_clock`: seconds since 1970, which `reputation` is kept in."""
        self._channels = PeerChannels(streams, FetchPace(is_inference_busy))
        self._me = streams.me
        self._fetches: set[FileFetch] = set()
        self._reputation = reputation
        self._rng = rng
        self._wall_clock = wall_clock
        self._run_blocking = run_blocking

    @property
    def received(self) -> PeerBytes:
        """Bytes of chunks that each peer sent, those included that were of no use."""
        return self._channels.received

    async def run(self) -> None:
        """Carry the streams until cancelled. Fetches that were begun before wait for this."""
        await self._channels.run()

    async def fetch_file(
        self,
        file: FetchedFile,
        sink: ChunkSink,
        seeders: AsyncIterable[Collection[PeerId]],
        on_progress: Callable[[FetchProgress], None] = lambda progress: None,
    ) -> FetchProgress:
        """Fill `sink` with `file`, from whoever of `seeders` has any of it: all peers to use, and again when
        they have changed. Returns what it took, when all chunks are written and `file.sha256` is known.

        Waits for as long as nobody has what is missing, and says why in `on_progress`, which is called some
        times a second. Whether the whole file has its sha256 is for the caller to see. A file is fetched once
        at a time. Cancelled: what is in the sink stays, and no peer is asked for anything more.

        Raises:
          SinkFull, SinkFailed: a chunk could not be written. What is in the sink stays.
        """
        await self._channels.started()
        fetch = FileFetch(
            file,
            sink,
            self._channels,
            self._me,
            self._rng,
            run_blocking=self._run_blocking,
            may_use=self.may_use,
            on_progress=on_progress,
        )
        with self._sharing(fetch):
            await fetch.run(seeders)
        return fetch.progress()

    def may_use(self, peer: PeerId) -> bool:
        """Whether anything is fetched from `peer` now: it is not banned."""
        return not self._reputation.is_banned(peer, self._wall_clock())

    def note_wrong(self, manifest: ManifestId, peers: Iterable[PeerId]) -> None:
        """`peers` were dropped, and all files of `manifest` have come with the sha256 that it says. Not to be
        said before: it may be the manifest that lies, and who has the true file looks like a liar then."""
        for peer in peers:
            self._reputation.note_wrong(peer, manifest, self._wall_clock())

    async def fetch_manifest(self, wanted: ManifestId, peers: Iterable[PeerId]) -> Manifest:
        """The manifest of that id, from the first of `peers` that gives it. Cancelled: nothing is left.

        Raises:
          NobodyHasIt: none of them does.
        """
        await self._channels.started()
        for peer in peers:
            if self.may_use(peer):
                with trio.move_on_after(ANSWER_TIME_MAX), self._channels.use(peer) as channel:
                    encoded = await channel.manifest(wanted)
                    if encoded is None:
                        continue
                    try:
                        return await self._run_blocking(_decode, encoded, wanted)
                    except BadManifest as error:
                        logger.warning("what %s sent as manifest %s is none: %s", peer, wanted, error)
        raise NobodyHasIt(f"no peer gives manifest {wanted}")

    async def describe(self, file: FileKey, peer: PeerId) -> Have:
        """What `peer` has of `file` now: how one learns the size of a file that is still growing, and is in
        no manifest. Not while that file is fetched. Cancelled: nothing is left.

        Raises:
          NobodyHasIt: it has nothing of it, or does not say so.
        """
        await self._channels.started()
        with trio.move_on_after(ANSWER_TIME_MAX) as scope, self._channels.use(peer) as channel:
            question = _Question(scope)
            channel.follow(file, question, with_hashes=False)
            try:
                await channel.ended.wait()
            finally:
                channel.unfollow(file)
        if question.have is None:
            raise NobodyHasIt(f"{peer} has nothing of {file}")
        return question.have

    @contextmanager
    def _sharing(self, fetch: FileFetch) -> Iterator[None]:
        """Within, `fetch` may hold its share of the chunks that all may hold together."""
        self._fetches.add(fetch)
        self._share()
        try:
            yield
        finally:
            self._fetches.remove(fetch)
            self._share()

    def _share(self) -> None:
        for fetch in self._fetches:
            fetch.bound(max(1, UNDER_WAY_MAX // len(self._fetches)))


def _decode(encoded: bytes, wanted: ManifestId) -> Manifest:
    manifest = decode_manifest_untrusted(encoded)
    if manifest.id != wanted:
        raise BadManifest("it is another one")
    return manifest


class _Question:
    """Follows a file until the first answer, which ends `scope`."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.have: Have | None = None
        self._scope = scope

    def on_offer(self, peer: PeerId, said: Have | Gained | NoFile) -> None:
        """As `Follower`."""
        if isinstance(said, Have) and self.have is None:
            self.have = said
        self._scope.cancel()

    def on_event(self, event: Event) -> None:
        """As `Follower`: nothing is asked for."""

    def on_chunk(self, peer: PeerId, chunk: int, pieces: list[bytes]) -> None:
        """As `Follower`: nothing is asked for."""
