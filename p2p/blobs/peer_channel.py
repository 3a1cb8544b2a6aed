"""One blob stream to one seeder, for everything that this node fetches from it at a time.

    fetch of a file -- follow, request, cancel --> +---------+ -- frames --> seeder
                    <-- offers, chunks ----------- | channel |
    fetch of a manifest -- manifest -------------> +---------+ <-- frames --

What a seeder sends is checked here against what it was asked for: pieces in order, none that nobody
wanted. Whether a chunk is right is for its fetch to say. A channel is opened once, and never again after
it ended: who still wants something of that peer takes a new one.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import Protocol

import trio

from p2p.allowance import Allowance
from p2p.blobs.blob_messages import (
    FRAME_SIZE_MAX,
    MANIFESTS_MAX,
    PROTOCOL_ID,
    Cancel,
    Data,
    FetcherMessage,
    Follow,
    Gained,
    Have,
    ManifestPiece,
    NoFile,
    NoManifest,
    Refused,
    Request,
    SeederMessage,
    Unfollow,
    WantManifest,
    decode_from_seeder_untrusted,
    encode,
)
from p2p.blobs.fetch_events import (
    BytesArrived,
    ChunkRefused,
    Event,
    LateBytesArrived,
    Refusal,
)
from p2p.blobs.fetch_pace import FetchPace
from p2p.blobs.manifest import FileKey, ManifestId
from p2p.blobs.peer_bytes import PeerBytes
from p2p.errors import BadFrame, Unreachable
from p2p.frame_stream import FrameStream
from p2p.network import Streams
from p2p.peer import PeerId
from p2p.revision import Revision

logger = logging.getLogger(__name__)

_UNSENT_MAX = 256
"""Messages that wait for the stream: some for each chunk of a few fetches. Whoever reads none of them while
their chunks are taken from it is cut off."""
_CANCELLED_MAX = 256
"""Cancelled requests whose late pieces are known for what they are. They come within a round trip."""
_TOLD_BURST, _TOLD_RATE = 4096, 500
"""Messages other than data, and crumbs of that, which a peer may send at once, and a second: each takes some
of the time in which all else waits. The first tells all hashes of eight files of 2 TiB, the second the chunks
of 2 GB/s, each of which may end with a crumb."""
_CRUMB = 8 * 1024
"""Bytes of data that are fewer than anybody cuts a chunk into, but for its end. Cut into pieces of two bytes
each, a chunk takes almost thirty times its size in memory."""


class Follower(Protocol):
    """A fetch of a file, as a channel sees it. All of it is called at once, and waits for nothing."""

    def on_offer(self, peer: PeerId, said: Have | Gained | NoFile) -> None:
        """`peer` said what it has.

        Raises:
          BadFrame: that cannot be said of this file. It costs the peer its stream.
        """

    def on_event(self, event: Event) -> None:
        """Something of what `peer` was asked for came, or will not come."""

    def on_chunk(self, peer: PeerId, chunk: int, pieces: list[bytes]) -> None:
        """All bytes of `chunk` came. Nobody has compared its hash."""


@dataclass(slots=True)
class _Asked:
    """A chunk that is under way, of a file that is followed."""

    file: FileKey
    chunk: int
    size_bytes: int
    arrived: int = 0
    pieces: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _AskedManifest:
    """A manifest that is under way, maybe for several who wait, maybe for nobody any more."""

    pieces: list[bytes] = field(default_factory=list)
    arrived: int = 0
    is_whole: bool = False
    over: trio.Event = field(default_factory=trio.Event)


class PeerChannel:
    """The stream to `peer`, carried by `run`."""

    def __init__(self, peer: PeerId, pace: FetchPace, received: PeerBytes) -> None:
        """`received` counts the bytes of chunks."""
        self.peer = peer
        self.ended = trio.Event()
        """Nothing comes any more, and nothing that is asked for is sent."""
        self._pace = pace
        self._received = received
        self._to_send, self._unsent = trio.open_memory_channel[FetcherMessage](_UNSENT_MAX)
        self._scope = trio.CancelScope()
        self._ids = itertools.count()
        self._followers: dict[FileKey, Follower] = {}
        self._asked: dict[int, _Asked] = {}
        self._cancelled: dict[int, _Asked] = {}
        self._manifests: dict[ManifestId, _AskedManifest] = {}
        self._manifests_over = Revision()
        self._may_tell = Allowance(_TOLD_BURST, _TOLD_RATE)

    async def run(self, streams: Streams) -> None:
        """Open the stream, and carry messages until it ends. Never raises for what a peer does. Cancelled,
        or closed: the stream is reset."""
        try:
            with self._scope:
                stream = await streams.open_stream(self.peer, PROTOCOL_ID)
                async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
                    try:
                        await self._carry(frames)
                    finally:
                        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                            # It waits for nothing; the bound is for a stream that breaks its word.
                            await frames.reset()
        except* (Unreachable, trio.BrokenResourceError, trio.ClosedResourceError) as errors:
            logger.debug("no blob stream to %s: %s", self.peer, errors.exceptions[0])
        except* BadFrame as errors:
            logger.warning("peer %s broke the blob protocol: %s", self.peer, errors.exceptions[0])
        finally:
            self._end()

    def close(self) -> None:
        """End now."""
        self._scope.cancel()

    def follow(self, file: FileKey, follower: Follower, *, with_hashes: bool) -> None:
        """Tell `follower` what the peer has of `file`, until `unfollow`. A file has one at a time."""
        assert file not in self._followers, "a file is fetched once at a time"
        self._followers[file] = follower
        self._post(Follow(file, with_hashes))

    def unfollow(self, file: FileKey) -> None:
        """Nothing of `file` is wanted any more: what is under way of it is cancelled."""
        for asked in [asked for asked in self._asked.values() if asked.file == file]:
            self.cancel(file, asked.chunk)
        if self._followers.pop(file, None) is not None:
            self._post(Unfollow(file))

    def request(self, file: FileKey, chunk: int, size_bytes: int) -> None:
        """Ask for `chunk`, which has that size."""
        number = next(self._ids)
        self._asked[number] = _Asked(file, chunk, size_bytes)
        self._post(Request(number, file, chunk))

    def cancel(self, file: FileKey, chunk: int) -> None:
        """`chunk` is not wanted any more. What was sent of it meanwhile counts as late."""
        numbers = [each for each, asked in self._asked.items() if (asked.file, asked.chunk) == (file, chunk)]
        for number in numbers:
            asked = self._cancelled[number] = self._asked.pop(number)
            asked.pieces.clear()
            self._post(Cancel(number))
        if len(self._cancelled) > _CANCELLED_MAX:
            del self._cancelled[next(iter(self._cancelled))]

    async def manifest(self, manifest: ManifestId) -> bytes | None:
        """What the peer sends as that manifest: its hash was not compared. None: it sends none, or the
        channel ended. Cancelled: it goes on arriving, for who asks next."""
        while manifest not in self._manifests:
            if self.ended.is_set():
                await trio.lowlevel.checkpoint()
                return None
            if len(self._manifests) < MANIFESTS_MAX:
                self._manifests[manifest] = _AskedManifest()
                self._post(WantManifest(manifest))
            else:
                await self._manifests_over.after(self._manifests_over.number)
        asked = self._manifests[manifest]
        await asked.over.wait()
        return b"".join(asked.pieces) if asked.is_whole else None

    def _post(self, message: FetcherMessage) -> None:
        try:
            self._to_send.send_nowait(message)
        except trio.WouldBlock:
            logger.debug("%s reads nothing of the blob stream", self.peer)
            self.close()
        except trio.BrokenResourceError:
            pass  # It has ended, as all who use it are told.

    def _end(self) -> None:
        self._unsent.close()
        self._asked.clear()
        self._cancelled.clear()
        for asked in self._manifests.values():
            asked.over.set()
        self._manifests.clear()
        self.ended.set()
        self._manifests_over.rise()

    async def _carry(self, frames: FrameStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, frames)
            while (frame := await frames.receive()) is not None:
                message = decode_from_seeder_untrusted(frame)
                size_bytes = len(message.data) if isinstance(message, Data) else 0
                if size_bytes < _CRUMB and not self._may_tell.take(1, trio.current_time()):
                    raise BadFrame("it tells more than there can be to tell")
                self._on_message(message)
                if size_bytes:
                    self._received.note(self.peer, size_bytes)
                    await self._pace.after(size_bytes)
            nursery.cancel_scope.cancel()

    async def _write(self, frames: FrameStream) -> None:
        async for message in self._unsent:
            await frames.send(encode(message))

    def _on_message(self, message: SeederMessage) -> None:
        match message:
            case Data():
                self._on_data(message)
            case Refused(number, reason):
                asked = self._asked.pop(number, None)
                if asked is not None:
                    refusal = ChunkRefused(self.peer, asked.chunk, Refusal(reason))
                    self._followers[asked.file].on_event(refusal)
            case Have(file) | Gained(file) | NoFile(file):
                # Of what is not followed any more, something may still be under way.
                if file in self._followers:
                    self._followers[file].on_offer(self.peer, message)
            case ManifestPiece():
                self._on_manifest_piece(message)
            case NoManifest(manifest):
                self._manifest_is_over(manifest)

    def _on_data(self, data: Data) -> None:
        is_late = data.id in self._cancelled
        asked = self._cancelled.get(data.id) or self._asked.get(data.id)
        if asked is None:
            raise BadFrame(f"data of request {data.id}, which is not under way")
        if data.offset != asked.arrived and not is_late:
            raise BadFrame(f"data from {data.offset} on, where {asked.arrived} bytes had come")
        size = len(data.data)
        asked.arrived += size
        if asked.arrived > asked.size_bytes:
            raise BadFrame(f"more than the {asked.size_bytes} bytes of the chunk that was asked for")
        follower = self._followers.get(asked.file)
        if follower is None:
            return
        if is_late:
            follower.on_event(LateBytesArrived(self.peer, size))
            return
        asked.pieces.append(bytes(data.data))
        follower.on_event(BytesArrived(self.peer, asked.chunk, size))
        if asked.arrived == asked.size_bytes:
            del self._asked[data.id]
            follower.on_chunk(self.peer, asked.chunk, asked.pieces)

    def _on_manifest_piece(self, piece: ManifestPiece) -> None:
        asked = self._manifests.get(piece.manifest)
        if asked is None or piece.offset != asked.arrived:
            raise BadFrame(f"a piece of manifest {piece.manifest} that nobody waits for")
        asked.pieces.append(bytes(piece.data))
        asked.arrived += len(piece.data)
        if asked.arrived == piece.size_bytes:
            asked.is_whole = True
            self._manifest_is_over(piece.manifest)

    def _manifest_is_over(self, manifest: ManifestId) -> None:
        asked = self._manifests.pop(manifest, None)
        if asked is not None:
            asked.over.set()
            self._manifests_over.rise()
