"""The front's side of `infer.py`: the worker of a peer as something that infers.

Opening a stream costs several round trips of negotiation, so a stream whose answer
came to its end is kept for the next request. A kept stream may have died unseen: if
it ends before the worker said a word, the request goes out again on a new one, once.
Nothing runs twice by that, since the end of a stream cancels what it carried. Only a stream whose worker
says which request it answers is kept.

Whatever goes wrong on the wire is a `PeerGone`, a `Misbehaved` or a `DeadlineExceeded` here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any

import trio

from federation.backend import Answer, AnswerEvent, Chunk, Done, InferenceRequest, Progress
from federation.chunk_sizing import held_size
from federation.errors import (
    BadRequest,
    ContextTooLong,
    DeadlineExceeded,
    Failed,
    FederationError,
    Misbehaved,
    PeerGone,
    Refused,
    Stalled,
)
from federation.infer import (
    FRAME_SIZE_MAX,
    MARK_MAX,
    PROTOCOL_ID,
    SILENCE_MAX,
    Accepted,
    AnswerOrder,
    Credit,
    Failure,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.infer_codec import decode_from_front_untrusted, decode_from_worker_untrusted, encode
from federation.pace import Pace
from federation.pulse import NobodyKnows, Pulse
from federation.standstill import Standstill
from p2p.errors import BadFrame, FrameTooLarge, ProtocolNotSpoken, Unreachable
from p2p.frame_stream import FrameStream
from p2p.framing import encode_frame
from p2p.network import PeerStream, Streams
from p2p.peer import PeerId

_KEPT_MAX = 4
"""Streams kept per peer: as many requests as a home asks of one machine at once, mostly."""

_KEPT_FOR = 60.0
"""Seconds. People answer each other within a minute; after that a negotiation does not matter."""

_PARTS_SIZE_MAX = 2**24
"""Of a chunk that was cut, as `held_size` counts it: a prompt that is echoed is as long as a frame,
4 MiB, and the token ids of a text are up to so many."""

_RESET_MAX = 1.0
"""Seconds a reset may take. It waits for nobody, so this only bounds a broken connection's surprises."""


_SEND_MIN = 50_000.0
"""Bytes a second: of a long prompt, or an answer to go on with, the uplink of a slow home carries more."""

_PROBE_TIME = 1.0
"""Seconds of its silence that a peer gets to give a sign of life: as long as the whole of a probe takes, with
its tries through others. A machine that works is late by less."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What all exchanges with one peer share."""

    peer: PeerId
    pace: Pace
    pulse: Pulse


class _StreamEnded(PeerGone):
    """The stream ended before its answer: of a kept one, that may have been long ago."""


class RemoteBackend:
    """The worker of `peer`. Keep one per peer: it holds the streams kept for the next request."""

    def __init__(
        self, streams: Streams, peer: PeerId, pulse: Pulse | None = None, *, rng: Random | None = None
    ) -> None:
        """`pulse` tells a slow peer from one that stands still; without it, none is given up early. `rng`
        draws what nobody may guess; None: the system's."""
        self._streams = streams
        self._peer = peer
        self._line = _Line(peer, Pace(), pulse or NobodyKnows())
        self._rng = rng or SystemRandom()
        self._kept: list[tuple[float, FrameStream]] = []

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Have the peer serve `request`; see `Infers`. Leaving early resets the stream.

        Raises:
          PeerGone: no connection, or it broke; Stalled: nothing came; on entering or in `events`.
          Failed: the peer says that it is at work, and comes no further; likewise.
          Misbehaved: the peer broke the protocol; likewise.
        """
        order = AnswerOrder.of(request)
        order.mark = self._rng.randint(1, MARK_MAX)
        asked = _encoded(Request(request, mark=order.mark))
        deadline = trio.current_time() + request.timeout
        exchange, accepted = await self._begin(asked, order, deadline)
        try:
            async with aclosing(exchange.events()) as events:
                yield Answer(
                    served_by=self._peer,
                    prompt_sha256=accepted.prompt_sha256,
                    prompt_tokens=accepted.prompt_tokens,
                    events=events,
                )
        finally:
            await self._leave(exchange)

    async def _begin(self, asked: bytes, order: AnswerOrder, deadline: float) -> tuple[_Exchange, Accepted]:
        """An accepted request, on a kept stream if there is one that still works."""
        if (kept := self._take_kept()) is not None:
            exchange = _Exchange(self._line, kept, order, deadline)
            order.must_be_tied = True
            try:
                return exchange, await self._ask(exchange, asked)
            except _StreamEnded:
                if exchange.was_heard:
                    raise
        with _wire_errors(self._peer):
            stream = await self._open_stream(deadline)
        order.must_be_tied = False
        exchange = _Exchange(self._line, FrameStream(stream, FRAME_SIZE_MAX), order, deadline)
        return exchange, await self._ask(exchange, asked)

    async def _open_stream(self, deadline: float) -> PeerStream:
        """A new stream. As of a word that does not come, a peer that stands still is given up early."""
        line, began_at = self._line, trio.current_time()
        with trio.move_on_at(min(deadline, began_at + line.pace.silence_max - _PROBE_TIME)):
            return await self._streams.open_stream(self._peer, PROTOCOL_ID)
        asked_at = line.pulse.ask(line.peer)
        await trio.sleep_until(min(deadline, trio.current_time() + _PROBE_TIME))
        if line.pulse.has_heard(line.peer, asked_at):
            # Once more: nothing was asked of it yet.
            with _time_limit(self._peer, deadline):
                return await self._streams.open_stream(self._peer, PROTOCOL_ID)
        raise _silence(self._peer, began_at, deadline)

    async def _ask(self, exchange: _Exchange, asked: bytes) -> Accepted:
        try:
            return await exchange.ask(asked)
        except BaseException:
            await self._leave(exchange)
            raise

    def _take_kept(self) -> FrameStream | None:
        if self._kept and self._kept[-1][0] + _KEPT_FOR > trio.current_time():
            return self._kept.pop()[1]
        return None

    async def _leave(self, exchange: _Exchange) -> None:
        """Keep the stream if its answer came to its end, and said whose it was; else reset it, which cancels
        the request."""
        now = trio.current_time()
        if exchange.order.is_over and exchange.order.is_tied:
            self._kept.append((now, exchange.frames))
            surplus = [self._kept.pop(0)[1]] if len(self._kept) > _KEPT_MAX else []
        else:
            surplus = [exchange.frames]
        while self._kept and self._kept[0][0] + _KEPT_FOR < now:
            surplus.append(self._kept.pop(0)[1])
        with trio.move_on_after(_RESET_MAX, shield=True):
            for frames in surplus:
                await frames.reset()


class _Exchange:
    """One request and its answer on one stream."""

    def __init__(self, line: _Line, frames: FrameStream, order: AnswerOrder, deadline: float) -> None:
        self.frames = frames
        self.order = order
        self._line = line
        self._peer = line.peer
        self._deadline = deadline
        self._parts: list[Chunk] = []
        self._parts_size = 0
        self._size = 0
        """Bytes of the request."""
        self.was_heard = False

    async def ask(self, asked: bytes) -> Accepted:
        """Send the request and wait for the verdict."""
        self._size = len(asked)
        await self._send(asked)
        standstill = Standstill(self._size)
        while True:
            began_at = trio.current_time()
            match await self._receive():
                case Accepted() as accepted:
                    return accepted
                case Refusal() as refusal:
                    raise _error_of(refusal)
                # A cold model is being loaded; `AnswerOrder` lets nothing else through.
                case said:
                    self._note(standstill, said, trio.current_time() - began_at)

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        """What `Answer.events` promises."""
        waited, has_begun = 0.0, False
        standstill = Standstill(self._size)
        while True:
            began_at = trio.current_time()
            said = await self._receive()
            took = trio.current_time() - began_at
            waited += took
            self._note(standstill, said, took)
            match said:
                case Chunk() as chunk:
                    if has_begun:
                        self._line.pace.waited(waited)
                    waited, has_begun = 0.0, True
                    for part in self._whole(chunk):
                        yield part
                    if count := self.order.grant():
                        await self._grant(count)
                case Progress() as progress:
                    yield progress
                case Done() as done:
                    yield done
                    return
                case Failure(message, is_bad_request=True, param=param):
                    raise BadRequest(message, param=param)
                case Failure(message):
                    raise Failed(message)

    async def _grant(self, count: int) -> None:
        """Let `count` more chunks come. From who is gone by now the rest may have arrived: reading tells."""
        with suppress(_StreamEnded):
            await self._send(encode_frame(encode(Credit(count)), FRAME_SIZE_MAX))

    def _note(self, standstill: Standstill, said: WorkerMessage, waited: float) -> None:
        standstill.note(said, waited)
        if standstill.is_too_long:
            raise Failed(f"{self._peer} came no further in {standstill.waited:.0f} seconds")

    def _whole(self, chunk: Chunk) -> Sequence[Chunk]:
        """`chunk` with the parts before it, once it is the last of them: should the peer die in between, who
        counts ids has all that they are of, or nothing."""
        if not chunk.is_cut and not self._parts:
            return (chunk,)
        self._parts.append(chunk)
        self._parts_size += held_size(chunk)
        if self._parts_size > _PARTS_SIZE_MAX:
            raise Misbehaved(f"{self._peer} sends parts of a chunk without end")
        if chunk.is_cut:
            return ()
        parts, self._parts, self._parts_size = self._parts, [], 0
        return parts

    async def _send(self, frame: bytes) -> None:
        with _wire_errors(self._peer), _time_limit(self._peer, self._deadline, len(frame)):
            await self.frames.send_frame(frame)

    async def _receive(self) -> WorkerMessage:
        # Spelled out: `_wire_errors` takes longer than the rest of it, and there is one for each token.
        try:
            values = await self._next_frame()
            if values is None:
                raise trio.BrokenResourceError("ended by the peer")
            message = decode_from_worker_untrusted(values)
            self.order.check(message)
        except _WIRE_ERRORS as error:
            raise _said_of(self._peer, error) from error
        self.was_heard = True
        return message

    async def _next_frame(self) -> dict[str, Any] | None:
        """The next one, or None at the end. Where nothing comes, the peer is asked for a sign of life: one
        that stands still is given up after `Pace.silence_max`, one that is slow after `SILENCE_MAX`."""
        line, began_at = self._line, trio.current_time()
        if began_at >= self._deadline:
            # A peer that always has something more must not go on for ever.
            raise _silence(line.peer, began_at, self._deadline)
        # What was sent may still be on its way, whatever says that there is room for more.
        sent_by = began_at if self.was_heard else began_at + self._size / _SEND_MIN
        with suppress(trio.TooSlowError):
            return await self.frames.receive_until(
                min(self._deadline, sent_by + line.pace.silence_max - _PROBE_TIME)
            )
        asked_at = line.pulse.ask(line.peer)
        # From now on, and not from when silence began: it may have been we who stood still.
        with trio.move_on_at(min(self._deadline, trio.current_time() + _PROBE_TIME)):
            return await self.frames.receive()
        if line.pulse.has_heard(line.peer, asked_at):
            with trio.move_on_at(min(self._deadline, sent_by + SILENCE_MAX)):
                return await self.frames.receive()
        raise _silence(line.peer, began_at, self._deadline)


def _silence(peer: PeerId, began_at: float, deadline: float) -> FederationError:
    """What it is that nothing came since `began_at`."""
    now = trio.current_time()
    if now >= deadline:
        return DeadlineExceeded("the request's time is over")
    return Stalled(f"nothing came from {peer} for {now - began_at:.1f} seconds")


@contextmanager
def _time_limit(peer: PeerId, deadline: float, size: int = 0) -> Iterator[None]:
    """Bounds one step on the wire, which sends `size` bytes."""
    limit = SILENCE_MAX + size / _SEND_MIN
    try:
        with trio.fail_at(min(deadline, trio.current_time() + limit)):
            yield
    except trio.TooSlowError:
        if trio.current_time() >= deadline:
            raise DeadlineExceeded("the request's time is over") from None
        raise Stalled(f"{peer} did not take {size} bytes within {limit:.0f} seconds") from None


_WIRE_ERRORS = (trio.BrokenResourceError, ProtocolNotSpoken, Unreachable, BadFrame)


@contextmanager
def _wire_errors(peer: PeerId) -> Iterator[None]:
    """Turns what goes wrong on the wire into our errors."""
    try:
        yield
    except _WIRE_ERRORS as error:
        raise _said_of(peer, error) from error


def _said_of(peer: PeerId, error: Exception) -> FederationError:
    """What `error` on the way to `peer` is to a front."""
    match error:
        case ProtocolNotSpoken():
            return Refused("no_such_model", f"{peer} takes no requests")
        case Unreachable():
            return PeerGone(f"{peer} cannot be reached: {error}")
        case BadFrame():
            return Misbehaved(f"{peer} broke the protocol: {error}")
        case _:
            return _StreamEnded(f"the stream to {peer} ended before the answer did")


def _encoded(request: Request) -> bytes:
    """`request` as a frame that the peer will take.

    Raises:
      BadRequest: it would not. Found here, the fault stays with the request and not with the peer.
    """
    asked = encode(request)
    try:
        decode_from_front_untrusted(asked)
        return encode_frame(asked, FRAME_SIZE_MAX)
    except (BadFrame, FrameTooLarge) as error:
        raise BadRequest(f"the request cannot travel: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        # What msgpack raises for half a surrogate pair, an unknown type, a number over 64 bits.
        raise BadRequest("the request has a value that cannot travel") from error


def _error_of(refusal: Refusal) -> FederationError:
    match refusal.reason:
        case "bad_request":
            return BadRequest(refusal.message, param=refusal.param)
        case "context_too_long":
            return ContextTooLong(refusal.message, param=refusal.param)
        case reason:
            return Refused(reason, refusal.message, load=refusal.load)
