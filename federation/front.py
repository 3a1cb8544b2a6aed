"""The front: the whole swarm as one backend.

    request -> directory -> pick -> lease -> worker or peer -> relay -> client
                  ^                              |               |
                  +-------- another peer --------+               |   refused
                  +-------- another peer resumes ----------------+   failed, died or fell silent

An answer is handed out once its first content is there, or all of it if the client wants it whole
(`relay.py`). Until then a peer that refuses, fails or dies costs the client nothing but time: the
next one is asked. After that another one goes on with it (`continuation.py`).

Picking and leasing happen without an `await` in between, so one front never overbooks
a peer; the lease is released on success, error and cancellation alike.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Protocol

import trio

from federation import directory
from federation.attempts import Attempts
from federation.backend import (
    SLOTLESS_KINDS,
    Answer,
    InferenceRequest,
    Infers,
    ModelInfo,
    RequestKind,
)
from federation.balancer import Candidate, Policy, least_used, pick
from federation.counts import Counts
from federation.errors import (
    BadRequest,
    Busy,
    DeadlineExceeded,
    Failed,
    FederationError,
    ModelNotFound,
    ModelUnavailable,
    PeerGone,
    Refused,
    Stalled,
)
from federation.lease import Leases
from federation.model_reference import ModelReference
from federation.relay import Relay, Source
from ledger.records import ModelName
from ledger.view import NodeView
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


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
        self.counts = Counts()
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
        a stream, could not go on, and neither could anybody else; says why.
        """
        relay = Relay(self, request)
        try:
            yield await relay.begin()
        finally:
            await relay.aclose()

    async def open(self, attempts: Attempts) -> Source:
        """Have somebody serve `attempts.request`, and note in `attempts` who did not. Cancelled: nobody does.

        Raises:
          BadRequest: it is wrong wherever it goes, or the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable, Busy: nobody does, for the reasons `attempts` knows.
          DeadlineExceeded: its time is over.
        """
        while True:
            async with AsyncExitStack() as held:
                candidate = await self._admit(attempts, held)
                try:
                    asked = replace(attempts.request, timeout=_time_left(attempts.deadline))
                    answer = await held.enter_async_context(self._backend(candidate).infer(asked))
                    _require_same_prompt(asked, answer)
                except BadRequest as error:
                    if not attempts.is_onward:
                        raise
                    # It was good enough for who began it.
                    self._note_refusal(candidate, error, attempts)
                except (Refused, Failed, ModelNotFound, ModelUnavailable, Busy) as error:
                    self._note_refusal(candidate, error, attempts)
                else:
                    self._note_success(candidate, attempts)
                    return Source(candidate, answer, held.pop_all())

    async def _admit(self, attempts: Attempts, held: AsyncExitStack) -> Candidate:
        """The peer to ask next, with a lease on it that `held` gives up.

        Raises: as `_choose`.
        """
        # Between choosing and leasing there is no `await`.
        candidate = self._choose(attempts)
        if attempts.request.kind not in SLOTLESS_KINDS:
            # By name alone, which is what loads are reported by: two references may mean the same slots.
            name = ModelReference.parse(attempts.model).name
            held.enter_context(self.leases.hold(candidate.peer, name))
        return candidate

    def _choose(self, attempts: Attempts) -> Candidate:
        """The peer to ask next, from the view as it is now.

        Raises:
          BadRequest: the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable, Busy: there is none, for the reasons `attempts` knows.
        """
        kind = attempts.request.kind
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

    def file_of(self, candidate: Candidate, model: ModelName) -> str:
        """The sha256 of the file that `candidate` serves as `model`, in hex; empty: not known, still.

        It may be known only now: files are hashed in the background.
        """
        return candidate.sha256 or directory.file_of(self._view.nodes(), candidate.peer, model)

    def note_failure(self, candidate: Candidate, error: Failed) -> None:
        """It had accepted a request, and could not go on."""
        self.counts.failures[candidate.peer] += 1
        if isinstance(error, Stalled):
            self.counts.stalls[candidate.peer] += 1
        self._note_evidence(candidate, error)

    def _note_refusal(self, candidate: Candidate, error: FederationError, attempts: Attempts) -> None:
        # `%r`, because a peer's own words must not look like other lines of the log.
        logger.info("request %s: %s did not serve it: %r", attempts.request.request_id, candidate.peer, error)
        attempts.note(candidate, error)
        if isinstance(error, Failed):
            self.note_failure(candidate, error)
        else:
            self.counts.refusals[candidate.peer] += 1

    def _note_success(self, candidate: Candidate, attempts: Attempts) -> None:
        if attempts.is_onward:
            self.counts.resumes[candidate.peer] += 1
        elif attempts.count:
            self.counts.retries[candidate.peer] += 1

    def _note_evidence(self, candidate: Candidate, error: Failed) -> None:
        if isinstance(error, PeerGone) and not candidate.is_local:
            self._on_peer_failure(candidate.peer, str(error))


def _require_same_prompt(request: InferenceRequest, answer: Answer) -> None:
    """Nothing, unless `answer` claims to go on after another prompt.

    Raises:
      Refused: it does. A peer should have found that out itself.
    """
    if request.resume is not None and answer.prompt_sha256 != request.resume.prompt_sha256:
        raise Refused("resume_mismatch", "its prompt has other tokens")


def _time_left(deadline: float) -> float:
    left = deadline - trio.current_time()
    if left <= 0:
        raise DeadlineExceeded("the request's time is over")
    return left
