"""`/localai-node/keep/1`: one question on one stream.

    who drops                              who holds
      | -- {file} -------------------------> |    I am about to drop my copy of this file
      | <------------------------ {kept} --- |    whether you keep yours, for `retention.PROMISE` at least

`file` is the sha256 of the model's file in hexadecimal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from p2p.errors import BadFrame, Unreachable
from p2p.fields import Fields
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

PROTOCOL_ID = "/localai-node/keep/1"

_FRAME_SIZE_MAX = 1024
"""Bytes: a hash and what later versions say of it."""
_SHA256_LENGTH = 64
_PATIENCE = 5.0
"""Seconds for one question, and for one answer: both are made from memory."""


async def asked_to_keep(streams: Streams, peer: PeerId, sha256: str) -> bool:
    """Whether `peer` promised to keep its copy of that file. Silence, and any failure, is no promise."""
    try:
        with trio.fail_after(_PATIENCE):
            stream = await streams.open_stream(peer, PROTOCOL_ID)
            async with FrameStream(stream, _FRAME_SIZE_MAX) as frames:
                await frames.send({"file": sha256})
                reply = await frames.receive()
                return reply is not None and Fields(reply).flag("kept")
    except (Unreachable, BadFrame, trio.TooSlowError, trio.BrokenResourceError) as error:
        logger.debug("no promise of %s to keep a file: %s", peer, error)
        return False


class KeepServer:
    """Answers who asks."""

    def __init__(self, promise: Callable[[str], bool]) -> None:
        """`promise` tells whether we keep the file of that sha256, and makes it true."""
        self._promise = promise

    def attach(self, streams: Streams) -> None:
        """Answer from now on."""
        streams.on_stream(PROTOCOL_ID, self.serve)

    async def serve(self, stream: PeerStream) -> None:
        """Answer the one question on `stream`."""
        frames = FrameStream(stream, _FRAME_SIZE_MAX)
        try:
            with trio.fail_after(_PATIENCE):
                if (values := await frames.receive()) is None:
                    return
                sha256 = Fields(values).text("file", _SHA256_LENGTH)
                await frames.send({"kept": self._promise(sha256)})
                # It has read the answer when it ends its side.
                await frames.receive()
        except BadFrame as error:
            logger.warning("peer %s broke the protocol that keeps copies: %s", stream.peer, error)
            await stream.reset()
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            logger.debug("peer %s did not take the answer: %s", stream.peer, error)
            await stream.reset()
