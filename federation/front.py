"""The front: the whole swarm as one backend.

    request -> directory -> pick -> lease -> worker or peer -> first content -> client
                  ^                              |
                  +------ another peer ----------+   refused or failed before anything came out

An answer is handed out once its first content is there, or all of it if the client wants
it whole. Until then a peer that refuses, fails or dies costs the client nothing but time:
the next one is asked. After that, a failure is the answer's end.

Picking and leasing happen without an `await` in between, so one front never overbooks
a peer; the lease is released on success, error and cancellation alike.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Protocol

import trio

from federation import directory
from federation.attempts import Attempts
from federation.backend import (
    SLOTLESS_KINDS,
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    Infers,
    ModelInfo,
    Progress,
    RequestKind,
)
from federation.balancer import Candidate, Policy, least_used, pick
from federation.errors import (
    BadRequest,
    Busy,
    DeadlineExceeded,
    Failed,
    Misbehaved,
    ModelNotFound,
    ModelUnavailable,
    PeerGone,
    Refused,
)
from federation.lease import Leases
from federation.model_reference import ModelReference
from ledger.records import ModelName
from ledger.view import NodeView
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_UNSEEN_MAX = 64
"""Chunks without content that are held back: a character takes a few tokens, a stop string some dozens, and
a peer that sends nothing else must not fill our memory."""

_HELD_SIZE_MAX = 2**23
"""Of what is held back, as `_size` counts it: a context of a million tokens takes seven million, and so do
two thousand vectors of six thousand numbers. A peer that sends without end must not fill our memory where
a client waits for all of it."""


class View(Protocol):
    """What a front needs of `ledger.view.SwarmView`."""

    def nodes(self) -> Sequence[NodeView]:
        """Every node, ours too."""


class Front:
    """Serves requests by the best worker of the swarm.

    `local` is this node's own worker, asked without a stream. `remote` makes the way to a
    peer's; it is called once per peer. `on_peer_failure` hears of peers that seem dead, never
    of engines that failed.
    """

    def __init__(
        self,
        me: PeerId,
        view: View,
        *,
        local: Infers | None,
        remote: Callable[[PeerId], Infers],
        rng: Random,
        on_peer_failure: Callable[[PeerId, str], None],
        policy: Policy = least_used,
    ) -> None:
        self.leases = Leases()
        self._me = me
        self._view = view
        self._local = local
        self._remote = remote
        # Small, and at most one for each member of the swarm: nobody else gets into the view.
        self._remotes: dict[PeerId, Infers] = {}
        self._rng = rng
        self._on_peer_failure = on_peer_failure
        self._policy = policy

    def models(self) -> Sequence[ModelInfo]:
        """Every model that some node can be asked for, once each, sorted by name."""
        return directory.models(self._view.nodes())

    def candidates(self, model: ModelName, kind: RequestKind = "chat") -> Sequence[Candidate]:
        """Who could serve a request of `kind` for `model` now: what `pick` chooses from."""
        found = directory.candidates(self._view.nodes(), model, self.leases, self._me, kind)
        if kind in SLOTLESS_KINDS:
            # Nobody is too full for it.
            found = [replace(candidate, leases=0) for candidate in found]
        return [candidate for candidate in found if self._local or not candidate.is_local]

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Have somebody serve `request`; see `Infers`.

        Entering returns at the first content of a stream, or at the end of an answer that is delivered
        whole, and raises neither Refused nor Failed. `Answer.events` may raise Failed: somebody began
        a stream and could not go on.
        """
        deadline = trio.current_time() + request.timeout
        attempts = Attempts(request.model)
        # By name alone, which is what loads are reported by: two references may mean the same slots.
        name = ModelReference.parse(request.model).name
        while True:
            candidate = self._choose(attempts, request.kind)
            async with AsyncExitStack() as held:
                if request.kind not in SLOTLESS_KINDS:
                    held.enter_context(self.leases.hold(candidate.peer, name))
                try:
                    backend = self._backend(candidate)
                    asked = replace(request, timeout=_time_left(deadline))
                    answer = await held.enter_async_context(backend.infer(asked))
                    begun = await _undelivered(answer.events, is_streamed=request.is_streamed)
                except (Refused, Failed, ModelNotFound, ModelUnavailable, Busy) as error:
                    # `%r`, because a peer's own words must not look like other lines of the log.
                    logger.info(
                        "request %s: %s did not serve it: %r", request.request_id, candidate.peer, error
                    )
                    self._note_evidence(candidate, error)
                    attempts.note(candidate, error)
                    continue
                relayed = self._relay(candidate, begun, answer.events)
                events = await held.enter_async_context(aclosing(relayed))
                yield replace(answer, events=events, attempts=attempts.count + 1)
                return

    def _choose(self, attempts: Attempts, kind: RequestKind) -> Candidate:
        """The peer to ask next, from the view as it is now.

        Raises:
          BadRequest: the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable, Busy: there is none, for the reasons `attempts` knows.
        """
        remaining = attempts.remaining(self.candidates(attempts.model, kind))
        chosen = pick(remaining, self._policy, self._rng)
        if chosen is None:
            if directory.is_unfit(self._view.nodes(), attempts.model, kind):
                raise BadRequest(f"{attempts.model} is not a model for {kind}", param="model")
            obstacles = directory.obstacles(self._view.nodes(), attempts.model)
            models = [model.name for model in self.models() if model.state != "failed"]
            raise attempts.verdict(remaining, obstacles, models)
        return chosen

    def _backend(self, candidate: Candidate) -> Infers:
        if candidate.is_local:
            assert self._local is not None
            return self._local
        if candidate.peer not in self._remotes:
            self._remotes[candidate.peer] = self._remote(candidate.peer)
        return self._remotes[candidate.peer]

    async def _relay(
        self, candidate: Candidate, begun: Sequence[AnswerEvent], events: AsyncIterator[AnswerEvent]
    ) -> AsyncGenerator[AnswerEvent, None]:
        for event in begun:
            yield event
        try:
            async for event in events:
                yield event
        except PeerGone as error:
            self._note_evidence(candidate, error)
            raise

    def _note_evidence(self, candidate: Candidate, error: Exception) -> None:
        if isinstance(error, PeerGone) and not candidate.is_local:
            self._on_peer_failure(candidate.peer, str(error))


async def _undelivered(events: AsyncIterator[AnswerEvent], *, is_streamed: bool) -> list[Chunk | Done]:
    """All that may be thrown away if the peer fails now, without progress.

    Of a stream everything up to the first event that the client would see something of; of
    an answer that is delivered whole, all of it.

    Raises:
      Misbehaved: it is longer than any answer can be.
    """
    begun: list[Chunk | Done] = []
    size = 0
    async for event in events:
        if isinstance(event, Progress):
            continue
        begun.append(event)
        if isinstance(event, Done):
            return begun
        size += _size(event)
        if size > _HELD_SIZE_MAX:
            raise Misbehaved("the answer is longer than any that is held back for a client")
        has_content = event.text or event.reasoning or event.tool_calls
        if is_streamed and (has_content or len(begun) >= _UNSEEN_MAX):
            return begun
    raise Failed("the answer ended before it was complete" if begun else "the answer ended before it began")


def _size(chunk: Chunk) -> int:
    """What it takes to hold `chunk`, in tokens and characters, itself as one more."""
    arguments = sum(1 + len(call.arguments) for call in chunk.tool_calls)
    # A probability takes as much memory as four tokens do, and eight bytes of a vector less than one.
    likelihoods = sum(4 * (1 + len(each.top)) for each in chunk.logprobs)
    texts = len(chunk.text) + len(chunk.reasoning) + arguments
    return 1 + len(chunk.token_ids) + texts + likelihoods + len(chunk.vector) // 8


def _time_left(deadline: float) -> float:
    left = deadline - trio.current_time()
    if left <= 0:
        raise DeadlineExceeded("the request's time is over")
    return left
