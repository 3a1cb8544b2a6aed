"""The seeder: gives peers the manifests and chunks they ask for. What one is given: `seeding.py`.

A peer has one stream: another one replaces it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import trio

from p2p.blobs.blob_messages import PROTOCOL_ID
from p2p.blobs.peer_bytes import PeerBytes
from p2p.blobs.seeding import Seeding
from p2p.blobs.source import ChunkSource
from p2p.blobs.upload import UploadLimits
from p2p.blobs.upload_turns import UploadTurns
from p2p.errors import BadFrame
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


class Seeder:
    """Gives what is in `source` to everybody who may open a stream."""

    def __init__(
        self,
        streams: Streams,
        source: ChunkSource,
        limits: UploadLimits,
        is_inference_busy: Callable[[], bool],
    ) -> None:
        """`is_inference_busy` is asked before each piece: it must be quick."""
        self.uploaded = PeerBytes()
        """Bytes of chunks that each peer was sent."""
        self._streams = streams
        self._source = source
        self._turns = UploadTurns(limits, is_inference_busy)
        self._open: dict[PeerId, tuple[trio.CancelScope, trio.Event]] = {}
        """What ends each peer's seeding, and says that it has ended."""

    def uploading(self) -> Collection[PeerId]:
        """Who waits for chunks that it asked for, or is being sent them."""
        return self._turns.peers()

    async def run(self) -> None:
        """Answer blob streams, until cancelled: then nobody gets a turn any more."""
        self._streams.on_stream(PROTOCOL_ID, self._serve)
        await self._turns.run()

    async def _serve(self, stream: PeerStream) -> None:
        peer = stream.peer
        while (former := self._open.get(peer)) is not None:
            scope, ended = former
            scope.cancel()
            await ended.wait()
        scope, ended = self._open[peer] = trio.CancelScope(), trio.Event()
        try:
            with scope:
                await Seeding(stream, self._source, self._turns, self.uploaded.note).run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("the blob stream of %s broke", peer)
        except* BadFrame as errors:
            logger.warning("peer %s broke the blob protocol: %s", peer, errors.exceptions[0])
        except* trio.TooSlowError:
            logger.warning("peer %s does not read the chunks it asked for", peer)
        finally:
            del self._open[peer]
            ended.set()
            await stream.reset()  # Half a frame may be on it.
