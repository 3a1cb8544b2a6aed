"""Relay: the events of one answer, whoever serves it.

    begin    --> source --> first content, or all of it where the client wants it whole
    anext    --> source --> event --> continuation takes note of it
                   | failed
                   +--> the next best peer resumes after what was delivered     Resumed, then events as before
                   +--> or begins anew, where nothing was delivered
                   +--> or nobody can: the error says why

A source is one peer's part of an answer: what was leased there and entered. Between two events nothing runs
here, no task and no scope, and an event costs no more than noting its ids.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace

import trio

from federation.attempts import Attempts
from federation.backend import Answer, AnswerEvent, Chunk, Done, InferenceRequest, Progress, Resumed
from federation.balancer import Candidate
from federation.chunk_sizing import held_size, merged
from federation.continuation import Continuation
from federation.errors import BadRequest, Busy, Failed, Misbehaved, ModelNotFound, ModelUnavailable, TimedOut
from federation.model_reference import ModelReference
from federation.source import Source
from federation.sources import SwarmSources
from p2p.peer import PeerId

_UNSEEN_MAX = 64
"""Chunks without content that are held back: a character takes a few tokens, a stop string some dozens, and
a peer that sends nothing else must not fill our memory."""

_HELD_SIZE_MAX = 2**23
"""Of what is held back, as `held_size` counts it: a context of a million tokens takes seven million, and so
do two thousand vectors of six thousand numbers. A peer that sends without end must not fill our memory
where a client waits for all of it."""

_BARREN_MAX = 3
"""Peers in a row that may fail at the same token: engines that die of one request die of it
everywhere, and must not all be brought down by it."""

_SEAMS_MAX = 32
"""In one answer. Homes have fewer machines; what outlives so many deaths causes them."""

_RETURN_MAX = 30.0
"""Seconds to wait for somebody who can go on: an engine that crashed is loaded again in one to ten, a node
that was restarted is back in about five, and a reader gives up on a sentence that stops for longer."""

_CHOOSY_FOR = 3.0
"""Seconds to wait for a slot of somebody who has not failed at it: as long as a reader takes for a line."""

_RETURN_PAUSE = 0.5
"""Seconds between two looks at who is back: a view is as fresh as that."""


class Relay:
    """The events of the answer to `request`. One task at a time iterates; whoever has it closes it."""

    def __init__(self, sources: SwarmSources, request: InferenceRequest) -> None:
        self._sources = sources
        self._request = request
        self._deadline = trio.current_time() + request.timeout
        self._trace = request.trace
        self._trace.begin(ModelReference.parse(request.model).name, trio.current_time())
        self._beginning = Attempts(request, self._deadline)
        """To have it served from its beginning, as long as nothing was delivered."""
        self._asked = 0
        self._continuation = Continuation(request)
        self._source: Source | None = None
        """None: nobody serves it now."""
        self._is_onward = False
        """Who serves it goes on with it."""
        self._answer: Answer | None = None
        """Of who served it last."""
        self._held: deque[AnswerEvent] = deque()
        """Comes next."""
        self._held_size = 0
        self._is_undelivered = True
        """The client has seen nothing of it, and of what is held neither."""
        self._is_over = False
        self._fallen: list[tuple[PeerId, int]] = []
        """Who failed at it, after how many tokens."""

    async def begin(self) -> Answer:
        """The answer, at the first content of a stream, or at the end of one that is delivered whole.

        Raises:
          BadRequest, ModelNotFound, ModelUnavailable, Busy, TimedOut, DeadlineExceeded: nobody serves it.
        """
        self._take_over(await self._open(self._beginning), self._request)
        while self._hold(await self._next()):
            if self._held_size > _HELD_SIZE_MAX:
                await self._go_on(Misbehaved("the answer is longer than any that is held back for a client"))
        self._is_undelivered = False
        assert self._answer is not None
        return replace(self._answer, events=self, attempts=self._asked)

    async def aclose(self) -> None:
        """Cancel what runs for it, wherever that is."""
        self._trace.stop(self._continuation.tokens, trio.current_time())
        source, self._source = self._source, None
        if source is not None:
            await source.held.aclose()

    def __aiter__(self) -> Relay:
        return self

    async def __anext__(self) -> AnswerEvent:
        if self._held:
            return self._held.popleft()
        if self._is_over or self._source is None:
            raise StopAsyncIteration
        return await self._next()

    async def _next(self) -> AnswerEvent:
        while True:
            assert self._source is not None
            asked_at = trio.current_time()
            try:
                event = await anext(self._source.answer.events)
            except StopAsyncIteration:
                seam = await self._go_on(Failed("the answer ended before it was complete"))
            except Failed as error:
                seam = await self._go_on(error)
            except BadRequest as error:
                if not self._is_onward:
                    raise
                # It was good enough for who began it.
                seam = await self._go_on(Failed(str(error)))
            else:
                self._sources.outcomes.heard(self._source, event, trio.current_time() - asked_at)
                if isinstance(event, Chunk):
                    self._continuation.note(event)
                elif isinstance(event, Done):
                    return self._end(self._continuation.whole(event))
                return event
            if seam is not None:
                return seam

    def _end(self, done: Done) -> Done:
        self._is_over = True
        self._trace.end(done, trio.current_time())
        return done

    def _hold(self, event: AnswerEvent) -> bool:
        """Keep `event` from the client, if it is anything to it. Returns whether the next one is kept too."""
        if isinstance(event, Progress | Resumed):
            return True
        if isinstance(event, Chunk) and not self._held:
            self._trace.first_token(trio.current_time())
        self._append(event)
        if isinstance(event, Done):
            return False
        self._held_size += held_size(event)
        has_content = event.text or event.reasoning or event.tool_calls
        return not self._request.is_streamed or not (has_content or len(self._held) >= _UNSEEN_MAX)

    def _append(self, event: AnswerEvent) -> None:
        """Hold `event`, in one chunk with the last where nobody watches: one for each token takes ten times
        as much memory."""
        last = self._held[-1] if self._held and not self._request.is_streamed else None
        both = merged(last, event) if isinstance(last, Chunk) and isinstance(event, Chunk) else None
        if both is None:
            self._held.append(event)
        else:
            self._held[-1] = both

    async def _go_on(self, error: Failed) -> Resumed | Done | None:
        """After `error`: have somebody else serve the rest, or all of it (None).

        Raises:
          Failed: nobody can, and something was delivered.
          BadRequest, ModelNotFound, ModelUnavailable, Busy, TimedOut, DeadlineExceeded: nobody serves it.
        """
        assert self._source is not None
        failed = self._source.candidate
        self._continuation.identified(self._sources.file_of(failed, self._request.model))
        # Before its slots are anybody's again.
        self._sources.outcomes.failed(failed, self._source.lease, error)
        await self.aclose()
        is_kept = not self._is_undelivered or not (self._request.is_streamed or isinstance(error, Misbehaved))
        if is_kept and (end := self._continuation.ended()) is not None:
            return self._end(end)
        hindrance = self._note_seam(failed)
        if self._is_undelivered:
            self._beginning.note(failed, error)
            if hindrance or not is_kept:
                await self._start_again()
                return None
        if hindrance:
            raise self._broken_off(failed, error, hindrance)
        return await self._resume(failed, error)

    async def _start_again(self) -> None:
        """From nothing: nothing was delivered."""
        source = await self._open(self._beginning)
        self._held.clear()
        self._held_size = 0
        self._trace.start_again()
        self._continuation = Continuation(self._request)
        self._take_over(source, self._request)

    async def _resume(self, failed: Candidate, error: Failed) -> Resumed | None:
        onward = self._continuation.onward()
        tokens = self._continuation.tokens
        give_up_at = trio.current_time() + _RETURN_MAX
        # Rather somebody who has not failed at it yet; then who has not failed right here.
        spared = frozenset(peer for peer, _ in self._fallen)
        fallen_here = frozenset(peer for peer, at in self._fallen if at == tokens)
        while True:
            is_choosy = spared > fallen_here
            waits_until = trio.current_time() + _CHOOSY_FOR if is_choosy else give_up_at
            attempts = Attempts(onward, self._deadline, waits_until, is_onward=True, spared=spared)
            try:
                source = await self._open(attempts)
            except (ModelNotFound, ModelUnavailable, Busy, TimedOut) as verdict:
                if is_choosy:
                    spared = fallen_here
                    continue
                if self._is_undelivered:
                    with suppress(ModelNotFound, ModelUnavailable, Busy, TimedOut):
                        await self._start_again()
                        return None
                if trio.current_time() >= give_up_at:
                    raise self._broken_off(failed, error, str(verdict)) from verdict
                await trio.sleep(_RETURN_PAUSE)
                # Who has failed may be well again.
                spared = frozenset()
            else:
                self._take_over(source, onward)
                self._trace.resumes += 1
                return Resumed(source.answer.served_by, tokens)

    def _note_seam(self, failed: Candidate) -> str:
        """Why nobody shall go on after it; empty: somebody may."""
        tokens = self._continuation.tokens
        self._fallen.append((failed.peer, tokens))
        barren = sum(each == tokens for _, each in self._fallen)
        if len(self._fallen) > _SEAMS_MAX or barren > _BARREN_MAX:
            return "too many peers have failed at it"
        return self._continuation.obstacle()

    async def _open(self, attempts: Attempts) -> Source:
        """Somebody else who serves what is asked for."""
        before = attempts.count
        try:
            source = await self._sources.open(attempts)
        finally:
            self._asked += attempts.count - before
        self._asked += 1
        return source

    def _take_over(self, source: Source, asked: InferenceRequest) -> None:
        """From `source`, which serves what was `asked`, comes what follows."""
        self._source, self._answer = source, source.answer
        self._is_onward = asked is not self._request
        self._trace.accept(
            source.answer.served_by, source.answer.prompt_tokens, source.asked_at, source.accepted_at
        )
        self._continuation.accepted(asked, source.answer, source.candidate.sha256)

    def _broken_off(self, failed: Candidate, error: Failed, why: str) -> Failed:
        tokens = self._continuation.tokens
        return Failed(
            f"{failed.node_name} broke off after {tokens} tokens ({error}), and nobody can go on: {why}"
        )
