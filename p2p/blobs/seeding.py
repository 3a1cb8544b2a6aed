"""What one peer fetches from us, on one stream. The other side of `blob_messages.py`.

    peer -> [ reads ] --wanted--> [ gives ] -- DATA --------> peer
                |                     ^ upload_turns
                '------files----> [ tells ] -- HAVE, GAINED -> peer

One task reads what the peer wants, one gives it, and one for each file that it follows tells what comes.

A chunk is in memory while it is sent and its peer has a slot, and so is the one wanted next, so that the line
does not wait for the disk. Who waits for the next turn has them read again. So two at most are held for each
slot, and those of peers that stopped reading, for a bounded time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from p2p.blobs.blob_messages import (
    FOLLOWS_MAX,
    FRAME_SIZE_MAX,
    MANIFESTS_MAX,
    REQUESTS_MAX,
    Cancel,
    Data,
    FetcherMessage,
    Follow,
    ManifestPiece,
    NoManifest,
    Refused,
    Request,
    SeederMessage,
    Unfollow,
    WantManifest,
    decode_from_fetcher_untrusted,
    encode,
)
from p2p.blobs.errors import ChunkUnavailable
from p2p.blobs.followed_file import FollowedFile
from p2p.blobs.manifest import FileKey, chunk_size
from p2p.blobs.source import ChunkSource
from p2p.blobs.upload import PIECE_SIZE
from p2p.blobs.upload_turns import UploadTurns
from p2p.errors import BadFrame
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_Wanted: TypeAlias = Request | WantManifest

_SEND_TIME_MAX = 60.0
"""Seconds in which a peer must take one piece: at a kilobyte a second nobody fetches a model. What a peer
that stopped reading makes us hold is held no longer."""


@dataclass(slots=True)
class _ReadAhead:
    """The chunk that is wanted next, read while the one before it is sent."""

    request: Request
    size: int
    chunk: memoryview | None = None
    """None: it could not be read, or not yet."""
    over: trio.Event = field(default_factory=trio.Event)


class Seeding:
    """A peer, and all it wants of us."""

    def __init__(
        self,
        stream: PeerStream,
        source: ChunkSource,
        turns: UploadTurns,
        on_sent: Callable[[PeerId, int], None],
    ) -> None:
        """`on_sent` is told of each piece of a chunk how many bytes it has."""
        self._peer = stream.peer
        self._frames = FrameStream(stream, FRAME_SIZE_MAX)
        self._source = source
        self._turns = turns
        self._on_sent = on_sent
        self._wanted: deque[_Wanted] = deque()
        """What is not sent in full, in the order it came; the first is being sent."""
        self._woken = trio.Event()
        """Something is wanted."""
        self._followed: dict[FileKey, FollowedFile] = {}
        self._ahead: _ReadAhead | None = None
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Until the peer ends the stream. Afterwards, or cancelled, there may be half a frame on it.

        Raises (in a group):
          BadFrame: the peer broke the protocol.
          trio.TooSlowError: it does not read what it asked for.
          trio.BrokenResourceError: the stream broke.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._give_all)
                while (values := await self._frames.receive()) is not None:
                    await self._handle(decode_from_fetcher_untrusted(values))
                self._nursery.cancel_scope.cancel()
        finally:
            self._turns.leave(self._peer)

    async def _handle(self, message: FetcherMessage) -> None:
        match message:
            case Request():
                await self._on_request(message)
            case Cancel(number):
                # Where none is left, its end is on its way.
                self._wanted = deque(each for each in self._wanted if _number_of(each) != number)
            case WantManifest():
                if sum(isinstance(each, WantManifest) for each in self._wanted) >= MANIFESTS_MAX:
                    raise BadFrame(f"more than {MANIFESTS_MAX} manifests wanted at once")
                self._want(message)
            case Follow(file, with_hashes):
                self._on_follow(file, with_hashes=with_hashes)
            case Unfollow(file):
                if (followed := self._followed.get(file)) is not None:
                    followed.end()

    async def _on_request(self, request: Request) -> None:
        numbers = [_number_of(each) for each in self._wanted if isinstance(each, Request)]
        if request.id in numbers:
            raise BadFrame(f"request {request.id} is under way already")
        if len(numbers) >= REQUESTS_MAX:
            # Sent by who reads: a peer that asks without end waits for itself.
            await self._send(Refused(request.id, "busy"))
            return
        offer = self._source.offer(request.file)
        if offer is not None and request.chunk >= offer.have.chunk_count:
            raise BadFrame(f"chunk {request.chunk} of a file that has {offer.have.chunk_count}")
        self._want(request)

    def _want(self, wanted: _Wanted) -> None:
        self._wanted.append(wanted)
        self._woken.set()

    def _on_follow(self, file: FileKey, *, with_hashes: bool) -> None:
        followed = self._followed.get(file)
        if followed is None:
            # Those that ended count until they have told their last: nobody makes us more tasks than that.
            if len(self._followed) >= FOLLOWS_MAX:
                raise BadFrame(f"more than {FOLLOWS_MAX} files followed")
            followed = self._followed[file] = FollowedFile(file)
            self._nursery.start_soon(self._tell, followed)
        followed.begin(with_hashes=with_hashes)

    async def _tell(self, followed: FollowedFile) -> None:
        await followed.tell(self._source, self._send)
        del self._followed[followed.file]

    async def _give_all(self) -> None:
        while True:
            while self._wanted:
                wanted = self._wanted[0]
                if isinstance(wanted, Request):
                    await self._give_chunk(wanted)
                else:
                    await self._give_manifest(wanted)
                if self._is_current(wanted):
                    self._wanted.popleft()
            self._turns.leave(self._peer)
            if self._ahead is not None:
                self._turns.spend(self._ahead.size)
                self._ahead = None
            self._woken = trio.Event()
            await self._woken.wait()

    def _is_current(self, wanted: _Wanted) -> bool:
        """Whether it is what is being sent, and was not cancelled."""
        return bool(self._wanted) and self._wanted[0] is wanted

    async def _give_chunk(self, request: Request) -> None:
        offer = self._source.offer(request.file)
        if offer is None or request.chunk not in offer.have:
            await self._send(Refused(request.id, "gone" if offer is None else "no_chunk"))
            return
        size, chunk, offset = chunk_size(offer.size_bytes, request.chunk), None, 0
        while offset < size:
            end = min(size, offset + self._turns.piece_size())
            if not self._turns.has_slot(self._peer):
                chunk = self._ahead = None
            await self._turns.take(self._peer, end - offset)
            if chunk is None:
                if not self._is_current(request):
                    return
                if (chunk := await self._chunk(request, size)) is None:
                    await self._send(Refused(request.id, "gone"))
                    return
            if not self._is_current(request):
                self._turns.spend(size - end)
                return
            if self._ahead is None:
                self._read_ahead()
            await self._send_piece(Data(request.id, offset, chunk[offset:end]))
            self._on_sent(self._peer, end - offset)
            offset = end

    async def _chunk(self, request: Request, size: int) -> memoryview | None:
        """The chunk, or None: our file is not what it was."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return await self._read(request, size)
        if ahead.request is not request:
            self._turns.spend(ahead.size)
            return await self._read(request, size)
        await ahead.over.wait()
        return ahead.chunk

    def _read_ahead(self) -> None:
        """Begin to read what is wanted after the chunk that is being sent. Once for each of those: who takes
        back what it asked for does not have us read another in its place."""
        following = self._wanted[1] if len(self._wanted) > 1 else None
        if not isinstance(following, Request):
            return
        offer = self._source.offer(following.file)
        if offer is not None and following.chunk in offer.have:
            self._ahead = _ReadAhead(following, chunk_size(offer.size_bytes, following.chunk))
            self._nursery.start_soon(self._read_into, self._ahead)

    async def _read_into(self, ahead: _ReadAhead) -> None:
        ahead.chunk = await self._read(ahead.request, ahead.size)
        ahead.over.set()

    async def _read(self, request: Request, size: int) -> memoryview | None:
        try:
            chunk = await self._source.read(request.file, request.chunk)
        except ChunkUnavailable as error:
            logger.warning("a chunk that %s asked for: %s", self._peer, error)
            return None
        return memoryview(chunk) if len(chunk) == size else None

    async def _give_manifest(self, wanted: WantManifest) -> None:
        data = await self._source.manifest(wanted.manifest)
        if data is None:
            await self._send(NoManifest(wanted.manifest))
            return
        for offset in range(0, len(data), PIECE_SIZE):
            piece = memoryview(data)[offset : offset + PIECE_SIZE]
            await self._turns.take(self._peer, len(piece))
            await self._send_piece(ManifestPiece(wanted.manifest, offset, len(data), piece))

    async def _send_piece(self, piece: Data | ManifestPiece) -> None:
        with trio.fail_after(_SEND_TIME_MAX):
            await self._send(piece)

    async def _send(self, message: SeederMessage) -> None:
        await self._frames.send(encode(message))


def _number_of(wanted: _Wanted) -> int | None:
    return wanted.id if isinstance(wanted, Request) else None
