"""Sources: has one peer serve a request, or what is left of it, and tells everybody what came of that.

    attempts -> room -> router: survey, choose, lease -> worker or peer -> source
                 ^                                           |
                 +-- back to its place in line, busy --------+
                 +-- another peer ---------------------------+   refused

Who finds no slot waits in the room (`room.py`), which says whose turn it is; choosing and leasing happen
without an `await` in between, so one front never overbooks a peer. The lease is released on success,
error and cancellation alike, which is news for who waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from typing import Protocol

import trio

from federation import directory, turns
from federation.aliases import Aliases
from federation.attempts import Attempts
from federation.backend import Answer, AnswerEvent, Chunk, Done, InferenceRequest, Infers
from federation.balancer import Candidate
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
    refusal_of,
)
from federation.first_words import FirstWords
from federation.gated_backend import GatedBackend
from federation.hedge import Hedge
from federation.lease import Lease
from federation.model_reference import ModelReference
from federation.prospects import outlook
from federation.relay import Source
from federation.room import Claim, NoPlace, Visit
from federation.router import Router
from federation.trace import Trace
from federation.turns import Turns
from federation.waiting_line import Tenant
from federation.work import Work
from ledger.probe import Loads
from ledger.records import Load, ModelName
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


_CHOOSY_FOR = 1.0
"""Seconds after which one that waits for a better place looks again though nothing happened: the peer that it
waits for may have fallen silent."""
_FIRST_WORDS_MIN = 0.5
"""Seconds. What is quicker than that takes its time for other things than the prompt, and is not to be told
apart by it."""
_PRIORITY_OF_RESUMED = 2**31
"""Larger than any that a request may have."""


class View(turns.View, Protocol):
    """What a front needs of `ledger.view.SwarmView`."""

    def aliases(self) -> Aliases:
        """Other names for models."""


class SwarmSources:
    """What `relay.py` needs of a front, for all requests of one."""

    def __init__(
        self,
        me: PeerId,
        view: View,
        router: Router,
        turns: Turns,
        *,
        local: GatedBackend | None,
        remote: Callable[[PeerId], Infers],
        rng: Random,
        on_peer_failure: Callable[[PeerId, str], None],
        on_load: Callable[[PeerId, Loads], None],
        hedge: float,
    ) -> None:
        """As those of `front.Front`."""
        self.counts = Counts()
        self._me = me
        self._view = view
        self._router = router
        self._turns = turns
        self._local = local
        self._remote = remote
        self._remotes: dict[PeerId, Infers] = {}
        """Of members of the swarm, once they were asked."""
        self._rng = rng
        self._on_load = on_load
        self._on_peer_failure = on_peer_failure
        self._hedge: Hedge | None = None
        if hedge > 0:
            self._hedge = Hedge(FirstWords(hedge), self.counts, _expected_first_words, self.note_failure)

    async def open(self, attempts: Attempts) -> Source:
        """Have somebody serve `attempts.request`, the faster one of two where the first one is late; else as
        `_ask`."""
        return await (self._hedge.open(attempts, self._ask) if self._hedge else self._ask(attempts))

    async def _ask(self, attempts: Attempts) -> Source:
        """Have somebody serve `attempts.request`, and note in `attempts` who did not. Cancelled: nobody does.

        Waits for a slot, and a while for a model that may come back.

        Raises:
          BadRequest: it is wrong wherever it goes, or the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable: nobody does, for the reasons `attempts` knows.
          Busy, TimedOut: there was no slot, and no room to wait for one or no time.
          DeadlineExceeded: its time is over.
        """
        async with AsyncExitStack() as stay:
            work = replace(self._router.work(attempts.request), is_resumed=attempts.is_onward)
            entering = self._turns.visit(_claim(attempts, work), takes_slot=work.slots > 0)
            visit = await stay.enter_async_context(entering)
            while True:
                # The way ends once it is back in line: in between nobody is to be told that it does not wait.
                with ExitStack() as way:
                    async with AsyncExitStack() as held:
                        take = partial(self._take, attempts, work, visit, held, way)
                        with _waiting(attempts.request.trace, visit.ticket.position):
                            candidate, lease = await visit.place(take, _like(attempts, work))
                        asked_at = trio.current_time()
                        answer = await self._answer_of(candidate, lease, attempts, held)
                        if answer is not None:
                            # Left first, and then the room, which passes the slot on.
                            stay.push_async_exit(held.pop_all())
                            answer = replace(answer, queued=visit.queued)
                            now = trio.current_time()
                            return Source(candidate, lease, answer, stay.pop_all(), visit, asked_at, now)
                    visit.come_back()

    async def _answer_of(
        self, candidate: Candidate, lease: Lease, attempts: Attempts, held: AsyncExitStack
    ) -> Answer | None:
        """The answer of `candidate`, which `held` ends; None: it does not serve it, as `attempts` knows."""
        attempts.request.trace.attempts += 1
        try:
            asked = replace(attempts.request, timeout=_time_left(attempts.deadline))
            answer = await held.enter_async_context(self._backend(candidate).infer(asked))
            _require_same_prompt(asked, answer)
        except BadRequest as error:
            if not attempts.is_onward:
                raise
            # It was good enough for who began it.
            self._note_refusal(candidate, lease, error, attempts)
        except (Refused, Failed, ModelNotFound, ModelUnavailable, Busy) as error:
            self._note_refusal(candidate, lease, error, attempts)
        else:
            self._router.accepted(lease, answer.prompt_tokens, trio.current_time())
            self._note_success(candidate, attempts)
            return answer
        return None

    def _take(
        self, attempts: Attempts, work: Work, visit: Visit, held: AsyncExitStack, way: ExitStack
    ) -> tuple[Candidate, Lease] | NoPlace:
        """The peer to ask next, from the view as it is now, and a lease on it that `held` gives up.

        `way` is to be closed when it has answered.

        Raises:
          BadRequest: the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable, Busy: nobody will, for the reasons `attempts` knows.
        """
        # By name alone, which is what loads are reported by: two references may mean the same slots.
        name, now = work.model.name, trio.current_time()
        survey = self._router.survey(work, self._view.nodes(), now, visit.ahead, attempts.left_out)
        remaining = attempts.remaining(survey.candidates)
        if not remaining:
            nodes = self._view.nodes()
            hope = outlook(attempts, survey, nodes, directory.models(nodes, self._view.aliases()))
            return NoPlace(hope.patience, hope.verdict, hope.again_in)
        able = self._turns.askable(remaining, name, work.slots)
        if not attempts.is_onward:
            # Nothing is kept from an answer that goes on: its client is in the middle of a sentence.
            able = [each for each in able if each.peer not in visit.kept]
        chosen = self._router.choose(able, work, self._rng)
        if chosen is None:
            soonest = min(remaining, key=lambda each: (each.cost.total / each.weight, each.peer))
            waits_for = soonest.peer if work.slots > 1 else None
            if any(not each.is_full for each in able):
                return NoPlace(again_in=_CHOOSY_FOR, is_choosy=True, waits_for=waits_for)
            return self._turns.all_taken(remaining, name, waits_for)
        lease = held.enter_context(self._router.lease(chosen, work, now))
        way.enter_context(self._turns.asking(chosen, name, work.slots))
        return chosen, lease

    def _backend(self, candidate: Candidate) -> Infers:
        if candidate.is_local:
            assert self._local is not None
            return self._local.for_front(self._me)
        if candidate.peer not in self._remotes:
            # Who has left the swarm would stay for ever: founding a home anew makes another peer.
            members = {node.peer for node in self._view.nodes()}
            self._remotes = {peer: each for peer, each in self._remotes.items() if peer in members}
            self._remotes[candidate.peer] = self._remote(candidate.peer)
        return self._remotes[candidate.peer]

    def file_of(self, candidate: Candidate, model: ModelName) -> str:
        """The sha256 of the file that `candidate` serves as `model`, in hex; empty: not known, still.

        It may be known only now: files are hashed in the background.
        """
        wanted = ModelReference.parse(model)
        return candidate.sha256 or directory.file_of(self._view.nodes(), candidate.peer, wanted)

    def note_failure(self, candidate: Candidate, lease: Lease, error: Failed) -> None:
        """It had accepted a request, and could not go on."""
        self._router.failed(lease, error, trio.current_time())
        self.counts.failures[candidate.peer] += 1
        if isinstance(error, Stalled):
            self.counts.stalls[candidate.peer] += 1
        self._note_evidence(candidate, error)

    def _note_refusal(
        self, candidate: Candidate, lease: Lease, error: FederationError, attempts: Attempts
    ) -> None:
        # `%r`, because a peer's own words must not look like other lines of the log.
        logger.info("request %s: %s did not serve it: %r", attempts.request.request_id, candidate.peer, error)
        refusal = refusal_of(error)
        if refusal.load is not None:
            self._note_load(candidate, lease.model, refusal.load)
        if refusal.reason == "busy":
            self._turns.refused(candidate, lease.model, lease.slots)
        attempts.note(candidate, error)
        if isinstance(error, Failed):
            self.note_failure(candidate, lease, error)
        else:
            self._router.failed(lease, error, trio.current_time())
            self.counts.refusals[candidate.peer] += 1

    def note_event(self, source: Source, event: AnswerEvent, waited: float) -> None:
        """It said `event`, for which we waited so many seconds."""
        now = trio.current_time()
        match event:
            case Chunk():
                # A server that tells no ids, and a vector, count as one token for each chunk.
                self._router.heard(source.lease, len(event.token_ids) or 1, waited, now)
            case Done():
                source.visit.tokens = source.lease.spent(event.usage)
                self._router.ended(source.lease, event, now)
                if event.load is not None:
                    self._note_load(source.candidate, source.visit.ticket.model, event.load)
            case _:
                self._router.heard(source.lease, 0, waited, now)

    def _note_load(self, candidate: Candidate, model: ModelName, load: Load) -> None:
        if not candidate.is_local:
            self._on_load(candidate.peer, {model: load})

    def _note_success(self, candidate: Candidate, attempts: Attempts) -> None:
        if attempts.is_onward:
            self.counts.resumes[candidate.peer] += 1
        elif attempts.count:
            self.counts.retries[candidate.peer] += 1

    def _note_evidence(self, candidate: Candidate, error: Failed) -> None:
        if isinstance(error, PeerGone) and not candidate.is_local:
            self._on_peer_failure(candidate.peer, str(error))


def _claim(attempts: Attempts, work: Work) -> Claim:
    request = attempts.request
    return Claim(
        work.model.name,
        Tenant(request.routing.tenant),
        # Who reads a stream that broke off has had its turn.
        _PRIORITY_OF_RESUMED if attempts.is_onward else request.priority,
        # What it did not take is given back.
        round(work.prompt_tokens + work.answer_tokens * work.choices),
        attempts.waits_until,
        work.slots,
    )


def _like(attempts: Attempts, work: Work) -> Hashable:
    """What decides where a request may go and would go: who agrees in it with one that finds no place finds
    none."""
    would = (work.policy, work.prefer, work.avoid)
    return work.model, work.kind, work.only, work.slots, attempts.left_out, attempts.is_onward, would


def _expected_first_words(candidate: Candidate) -> float:
    """Seconds until its first content, more than 0."""
    return max(candidate.cost.first_token, _FIRST_WORDS_MIN)


@contextmanager
def _waiting(trace: Trace, position: int) -> Iterator[None]:
    """While this is held a request waits for a slot; it ends with how long that took, however it was left."""
    began_at = trio.current_time()
    trace.position = position
    try:
        yield
    finally:
        trace.position = None
        trace.waited(trio.current_time() - began_at)


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
