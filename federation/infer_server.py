"""The worker's side of `infer.py`: puts anything that infers on a stream.

Per stream one task reads what the front says. Per request one pulls events from the
backend and one sends them, so that a slow backend does not keep PROGRESS from going out
and a slow front does not keep us from hearing that it left.

        front -> [ reads ] --starts, cancels--> [ answers ] --outbox--> [ sends ] -> front
                     +------------------credit---------------^

When the front does not grant credit the outbox fills, the backend is not pulled
any further, and its own back-pressure stops that one sequence.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import trio

from federation.backend import Chunk, Done, InferenceRequest, Infers, Progress, Resumed
from federation.chunk_sizing import pieces
from federation.errors import BadRequest, FederationError, refusal_of
from federation.infer import (
    FRAME_SIZE_MAX,
    PROTOCOL_ID,
    Accepted,
    Credit,
    Failure,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import decode_from_front_untrusted, encode
from federation.model_reference import ModelReference
from federation.outbox import Outbox
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


Loading: TypeAlias = Callable[[], Mapping[ModelName, float]]
"""How far each model is that is being loaded, 0 to 1."""


def _nothing_loads() -> Mapping[ModelName, float]:
    return {}


class InferServer:
    """Serves to the front of each peer what `for_front` has for it. `load` is how busy a model is now: it
    rides on every answer's end. `loading` is what PROGRESS says until a request is accepted."""

    def __init__(
        self,
        for_front: Callable[[PeerId], Infers],
        load: Callable[[ModelName], Load | None],
        loading: Loading = _nothing_loads,
    ) -> None:
        self._for_front = for_front
        self._load = load
        self._loading = loading
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
            await _Conversation(peer, frames, self._for_front(peer), self._load, self._loading).run()
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
        self,
        front: PeerId,
        frames: FrameStream,
        backend: Infers,
        load: Callable[[ModelName], Load | None],
        loading: Loading,
    ) -> None:
        self._front = front
        self._frames = frames
        self._backend = backend
        self._load = load
        self._loading = loading
        self._is_answering = False
        self._outbox = Outbox(0)
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
            case Request(request, credit, mark):
                self._is_answering = True
                self._listening.deadline = math.inf
                model = ModelReference.parse(request.model).name
                self._outbox = Outbox(credit, partial(self._loaded, model))
                nursery.start_soon(self._answer, request, mark)
            # Credit for an answer that has just ended is of no use to anybody.
            case Credit(count) if self._is_answering:
                self._outbox.grant(count)

    def _loaded(self, model: ModelName) -> Progress:
        return Progress(round(1000 * self._loading().get(model, 0.0)), 1000)

    async def _answer(self, request: InferenceRequest, mark: int) -> None:
        outbox = self._outbox
        status = "cancelled"
        try:
            with trio.move_on_after(request.timeout) as patience:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outbox.watch_silence)
                    nursery.start_soon(self._send, outbox, nursery.cancel_scope)
                    last = await self._serve(request, mark, outbox)
                    status = _status_of(last)
                    await outbox.put(last)
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

    async def _serve(self, request: InferenceRequest, mark: int, outbox: Outbox) -> WorkerMessage:
        """Pull the answer into `outbox`. Returns the last message, once the slot is free again."""
        is_accepted, done = False, None
        trace, tokens = request.trace, 0
        began_at = trio.current_time()
        trace.begin(request.model, began_at)
        try:
            async with self._backend.infer(request) as answer:
                await outbox.put(Accepted(answer.prompt_sha256, answer.prompt_tokens, mark))
                await outbox.put(Progress(0, answer.prompt_tokens))
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
                                await outbox.put(piece)
                        case Progress():
                            await outbox.put(event)
                        case Resumed():
                            # A front's own business: whoever asked this node asked it alone.
                            pass
        except FederationError as error:
            load = self._load(request.model)
            is_bad_request = isinstance(error, BadRequest)
            param = error.param if isinstance(error, BadRequest) else None
            if is_accepted:
                return Failure(str(error), load, is_bad_request, param)
            return Refusal(refusal_of(error).reason, str(error), param, load, mark)
        finally:
            trace.stop(tokens, trio.current_time())
        assert done is not None, "a backend's answer ends with Done or an error"
        return replace(done, load=self._load(request.model))

    async def _send(self, outbox: Outbox, answering: trio.CancelScope) -> None:
        """Send what may be sent until the last message, with which `answering` ends."""
        is_last = False
        while not is_last:
            message = await outbox.take()
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
        answering.cancel()


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
