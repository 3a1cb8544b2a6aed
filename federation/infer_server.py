"""The worker's side of `infer.py`: puts anything that infers on a stream.

Per stream one task reads what the front says. Per request two more: one pulls
events from the backend, one sends them, so that a slow backend does not keep
PROGRESS from going out and a slow front does not keep us from hearing that it left.

        front -> [ reads ] --starts, cancels--> [ answers ] --channel--> [ sends ] -> front
                     +------------------credit----------------------------^

When the front does not grant credit the channel fills, the backend is not pulled
any further, and its own back-pressure stops that one sequence.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import trio

from federation.backend import Chunk, Done, InferenceRequest, Infers, Progress, Resumed
from federation.chunk_sizing import merged, pieces
from federation.errors import BadRequest, FederationError, refusal_of
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    PROGRESS_INTERVAL,
    PROTOCOL_ID,
    Accepted,
    Credit,
    Failure,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import decode_from_front_untrusted, encode
from ledger.records import Load, ModelName
from p2p.errors import BadFrame
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_STREAMS_PER_PEER_MAX = 64
"""Several models' slots for one front; each stream may hold a request of 4 MiB."""

_IDLE_MAX = 120.0
"""Seconds a stream may wait for a request: twice what a front keeps one for (`infer_client.py`)."""

_UNSENT_MAX = 32
"""Events between the backend and the stream: what is merged into one chunk when credit comes back."""


class InferServer:
    """Serves to the front of each peer what `for_front` has for it. `load` is how busy a model is now: it
    rides on every answer's end."""

    def __init__(
        self, for_front: Callable[[PeerId], Infers], load: Callable[[ModelName], Load | None]
    ) -> None:
        self._for_front = for_front
        self._load = load
        self._open: Counter[PeerId] = Counter()

    def attach(self, streams: Streams) -> None:
        """Answer infer streams from now on."""
        streams.on_stream(PROTOCOL_ID, self.serve)

    async def serve(self, stream: PeerStream) -> None:
        """Answer the requests on `stream` until the front ends it. Cancelled: so is what runs for it."""
        peer = stream.peer
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        if self._open[peer] >= _STREAMS_PER_PEER_MAX:
            logger.warning("peer %s has %s infer streams open, refused one more", peer, self._open[peer])
            await frames.send(encode(Refusal("busy", "too many streams")))
            return
        self._open[peer] += 1
        try:
            await _Conversation(peer, frames, self._for_front(peer), self._load).run()
        except BadFrame as error:
            logger.warning("peer %s broke the infer protocol: %s", peer, error)
            await stream.reset()
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


class _Conversation:
    """One stream of one front."""

    def __init__(
        self, front: PeerId, frames: FrameStream, backend: Infers, load: Callable[[ModelName], Load | None]
    ) -> None:
        self._front = front
        self._frames = frames
        self._backend = backend
        self._load = load
        self._is_answering = False
        self._credit = trio.Semaphore(0, max_value=CREDIT_MAX)
        self._listening = trio.CancelScope(deadline=trio.current_time() + _IDLE_MAX)

    async def run(self) -> None:
        """Until the front ends the stream, or asks for nothing for too long.

        Raises:
          BadFrame: the front broke the protocol.
        """
        async with trio.open_nursery() as nursery:
            fault = await self._listen(nursery)
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault

    async def _listen(self, nursery: trio.Nursery) -> BadFrame | None:
        """What the front did wrong, if anything: raised here it would be lost in the nursery's group."""
        with self._listening:
            try:
                while (values := await self._frames.receive()) is not None:
                    self._handle(decode_from_front_untrusted(values), nursery)
            except BadFrame as error:
                return error
            except trio.BrokenResourceError:
                return None
        return None

    def _handle(self, message: Request | Credit, nursery: trio.Nursery) -> None:
        match message:
            case Request() if self._is_answering:
                raise BadFrame("a request before the end of the last answer")
            case Request(request, credit):
                self._is_answering = True
                self._listening.deadline = math.inf
                self._credit = trio.Semaphore(credit, max_value=CREDIT_MAX)
                nursery.start_soon(self._answer, request)
            # Credit for an answer that has just ended is of no use to anybody.
            case Credit(count) if self._is_answering:
                if self._credit.value + count > CREDIT_MAX:
                    raise BadFrame("more credit than chunks were sent")
                for _ in range(count):
                    self._credit.release()

    async def _answer(self, request: InferenceRequest) -> None:
        events, unsent = trio.open_memory_channel[WorkerMessage](_UNSENT_MAX)
        status = "cancelled"
        try:
            with trio.move_on_after(request.timeout) as patience:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send, unsent)
                    last = await self._serve(request, events)
                    status = _status_of(last)
                    await events.send(last)
            if patience.cancelled_caught:
                status = "deadline_exceeded"
                self._listening.cancel()
        finally:
            self._log(request, status)

    def _log(self, request: InferenceRequest, status: str) -> None:
        """One line for each request, which carries its id as the line of its front does."""
        said = {
            "request_id": request.request_id,
            "front": self._front,
            "kind": request.kind,
            "model": request.model,
            **request.trace.fields(trio.current_time()),
            "status": status,
        }
        # Who is told that we are busy may ask again every second.
        level = logging.DEBUG if status == "busy" else logging.INFO
        logger.log(level, "served a peer", extra=said)

    async def _serve(
        self, request: InferenceRequest, events: trio.MemorySendChannel[WorkerMessage]
    ) -> WorkerMessage:
        """Pull the answer into `events`. Returns the last message, once the slot is free again."""
        is_accepted, done = False, None
        trace, tokens = request.trace, 0
        began_at = trio.current_time()
        trace.begin(request.model, began_at)
        try:
            async with self._backend.infer(request) as answer:
                await events.send(Accepted(answer.prompt_sha256, answer.prompt_tokens))
                is_accepted = True
                trace.accept(answer.served_by, answer.prompt_tokens, began_at, trio.current_time())
                async for event in answer.events:
                    match event:
                        case Done():
                            done = event
                            trace.end(done, trio.current_time())
                        case Chunk():
                            if not trace.has_token:
                                trace.first_token(trio.current_time())
                            tokens += len(event.token_ids)
                            for piece in pieces(event):
                                await events.send(piece)
                        case Progress():
                            await events.send(event)
                        case Resumed():
                            # A front's own business: whoever asked this node asked it alone.
                            pass
        except FederationError as error:
            load = self._load(request.model)
            is_bad_request = isinstance(error, BadRequest)
            param = error.param if isinstance(error, BadRequest) else None
            if is_accepted:
                return Failure(str(error), load, is_bad_request, param)
            return Refusal(refusal_of(error).reason, str(error), param, load)
        finally:
            trace.stop(tokens, trio.current_time())
        assert done is not None, "a backend's answer ends with Done or an error"
        return replace(done, load=self._load(request.model))

    async def _send(self, unsent: trio.MemoryReceiveChannel[WorkerMessage]) -> None:
        """Send what comes, chunks as credit allows, PROGRESS while nothing does, until the last message."""
        progress = Progress(0, 0)
        following: WorkerMessage | None = None
        silent_until = trio.current_time() + PROGRESS_INTERVAL
        while True:
            message: WorkerMessage = progress
            if following is not None:
                message, following = following, None
            else:
                with trio.move_on_at(silent_until):
                    message = await unsent.receive()
            if isinstance(message, Progress):
                progress = message
                if trio.current_time() < silent_until:
                    continue
            elif isinstance(message, Chunk):
                await self._credit.acquire()
                message, following = _with_what_waits(message, unsent)
            is_last = isinstance(message, Done | Refusal | Failure)
            if is_last:
                # Before it is sent: the next request may be here before `send` returns.
                self._is_answering = False
                self._listening.deadline = trio.current_time() + _IDLE_MAX
            try:
                await self._frames.send(encode(message))
            except trio.BrokenResourceError:
                self._listening.cancel()
                return
            if is_last:
                return
            silent_until = trio.current_time() + PROGRESS_INTERVAL


def _status_of(last: WorkerMessage) -> str:
    match last:
        case Done():
            return "ok"
        case Refusal(reason):
            return reason
        case Failure(is_bad_request=True):
            return "bad_request"
        case _:
            return "failed"


def _with_what_waits(
    chunk: Chunk, unsent: trio.MemoryReceiveChannel[WorkerMessage]
) -> tuple[Chunk, WorkerMessage | None]:
    """`chunk` with the chunks that wait behind it, and what comes after them if that is known already."""
    while True:
        try:
            following = unsent.receive_nowait()
        except trio.WouldBlock:
            return chunk, None
        both = merged(chunk, following) if isinstance(following, Chunk) else None
        if both is None:
            return chunk, following
        chunk = both
