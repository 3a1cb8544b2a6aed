"""The front: the whole swarm as one backend.

    request -> room -> directory -> pick -> lease -> worker or peer -> relay -> client
                 ^                                        |               |
                 +-- back to its place in line, busy -----+               |
                 +-- another peer ------------------------+   refused     |
                 +-- another peer resumes --------------------------------+   failed, died or fell silent

An answer is handed out once its first content is there, or all of it if the client wants it whole
(`relay.py`). Until then a peer that refuses, fails or dies costs the client nothing but time: the
next one is asked. After that another one goes on with it (`continuation.py`).

Who finds no slot waits in the room (`room.py`), which says whose turn it is; picking and leasing happen
without an `await` in between, so one front never overbooks a peer. The lease is released on success,
error and cancellation alike, which is news for who waits.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from random import Random

import trio

from federation import directory
from federation.attempts import Attempts
from federation.backend import (
    SLOTLESS_KINDS,
    Answer,
    Done,
    InferenceRequest,
    Infers,
    ModelInfo,
    RequestKind,
    slots_of,
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
    refusal_of,
)
from federation.first_words import FirstWords
from federation.gated_backend import GatedBackend
from federation.hedge import Hedge
from federation.lease import Leases
from federation.model_reference import ModelReference
from federation.prospects import patience
from federation.relay import Relay, Source
from federation.room import Claim, NoPlace
from federation.turns import Feeds, Turns, View
from federation.waiting_room import Tenant, Waiting
from ledger.probe import Loads
from ledger.records import Load, ModelName
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


_ANSWER_TOKENS = 256
"""Guess: tokens of an answer whose length nobody bounds. What it did not take is given back."""
_CHARACTERS_PER_TOKEN = 4
"""Of English; it only has to be the same for all who share."""
_PRIORITY_OF_RESUMED = 2**31
"""Larger than any that a request may have."""


def _ignore_loads(peer: PeerId, loads: Loads) -> None:
    del peer, loads


class Front:
    """Serves requests by the best worker of the swarm.

    `local` is this node's own worker, asked without a stream. `remote` makes the way to a
    peer's; it is called once per peer. `on_peer_failure` hears of peers that seem dead, never of
    engines that failed, and `on_load` what peers say of their load. `feeds` tells peers that we wait
    for their slots; whoever hears of an offer calls `note_offer`. One task `run`s it.
    """

    def __init__(
        self,
        me: PeerId,
        view: View,
        *,
        local: GatedBackend | None,
        remote: Callable[[PeerId], Infers],
        rng: Random,
        on_peer_failure: Callable[[PeerId, str], None],
        feeds: Feeds | None = None,
        on_load: Callable[[PeerId, Loads], None] = _ignore_loads,
        policy: Policy = least_used,
        hedge: float = 0.0,
    ) -> None:
        """`hedge`: the share of streams, 0 to 1, that may go to one more peer when the first is late."""
        self.leases = Leases()
        self.counts = Counts()
        self._me = me
        self._view = view
        self._local = local
        self._remote = remote
        # Small, and at most one for each member of the swarm: nobody else gets into the view.
        self._remotes: dict[PeerId, Infers] = {}
        self._turns = Turns(me, view, local, feeds)
        self._rng = rng
        self._on_load = on_load
        self._on_peer_failure = on_peer_failure
        self._policy = policy
        self._hedge: Hedge | None = None
        if hedge > 0:
            self._hedge = Hedge(FirstWords(hedge), self.counts, _expected_first_words, self.note_failure)

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

    async def run(self) -> None:
        """Follow the view until cancelled: its changes are news for who waits."""
        await self._turns.run()

    def note_offer(self, peer: PeerId, model: ModelName) -> None:
        """`peer` holds a slot of `model` for us."""
        self._turns.note_offer(peer, model)

    def waiting(self) -> Mapping[ModelName, Waiting]:
        """The line of each model that somebody waits for."""
        return self._turns.waiting()

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
            takes_slot = slots_of(attempts.request) > 0
            entering = self._turns.visit(_claim(attempts), takes_slot=takes_slot)
            visit = await stay.enter_async_context(entering)
            while True:
                async with AsyncExitStack() as held:
                    with ExitStack() as way:
                        with _timed(attempts.request.trace.waited):
                            candidate = await visit.place(
                                partial(self._take, attempts, held, way), _like(attempts)
                            )
                        asked_at = trio.current_time()
                        answer = await self._answer_of(candidate, attempts, held)
                    if answer is not None:
                        # Left first, and then the room, which passes the slot on.
                        stay.push_async_exit(held.pop_all())
                        answer = replace(answer, queued=visit.queued)
                        return Source(candidate, answer, stay.pop_all(), visit, asked_at, trio.current_time())
                visit.come_back()

    async def _answer_of(
        self, candidate: Candidate, attempts: Attempts, held: AsyncExitStack
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
            self._note_refusal(candidate, error, attempts)
        except (Refused, Failed, ModelNotFound, ModelUnavailable, Busy) as error:
            self._note_refusal(candidate, error, attempts)
        else:
            self._note_success(candidate, attempts)
            return answer
        return None

    def _take(self, attempts: Attempts, held: AsyncExitStack, way: ExitStack) -> Candidate | NoPlace:
        """The peer to ask next, from the view as it is now, with a lease on it that `held` gives up.

        `way` is to be closed when it has answered.

        Raises:
          BadRequest: the model is not one for requests of this kind.
          ModelNotFound, ModelUnavailable, Busy: nobody will, for the reasons `attempts` knows.
        """
        # By name alone, which is what loads are reported by: two references may mean the same slots.
        name, slots = ModelReference.parse(attempts.model).name, slots_of(attempts.request)
        remaining = attempts.remaining(self.candidates(attempts.model, attempts.request.kind))
        chosen = pick(self._turns.askable(remaining, name, slots), self._policy, self._rng)
        if chosen is None:
            return self._turns.all_taken(remaining, name) if remaining else self._nobody(attempts)
        if slots:
            held.enter_context(self.leases.hold(chosen.peer, name))
        way.enter_context(self._turns.asking(chosen, name, slots))
        return chosen

    def _nobody(self, attempts: Attempts) -> NoPlace:
        """There is nobody to ask, whether they have slots or not.

        Raises: as `_take`, if it is not worth waiting for that to change.
        """
        nodes, kind = self._view.nodes(), attempts.request.kind
        if directory.is_unfit(nodes, attempts.model, kind):
            raise BadRequest(f"{attempts.model} is not a model for {kind}", param="model")
        models = [model.name for model in self.models() if model.state != "failed"]
        verdict = attempts.verdict(directory.obstacles(nodes, attempts.model), models)
        others = [node for node in nodes if node.peer not in attempts.left_out]
        # Where an answer has to go on, `relay.py` knows for how long.
        is_final = attempts.is_exhausted or attempts.is_onward
        if is_final or not (seconds := patience(others, attempts.model, kind)):
            raise verdict
        return NoPlace(seconds, verdict)

    def _backend(self, candidate: Candidate) -> Infers:
        if candidate.is_local:
            assert self._local is not None
            return self._local.for_front(self._me)
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
        refusal = refusal_of(error)
        name = ModelReference.parse(attempts.model).name
        if refusal.load is not None:
            self._note_load(candidate, name, refusal.load)
        if refusal.reason == "busy":
            self._turns.refused(candidate, name, slots_of(attempts.request))
        attempts.note(candidate, error)
        if isinstance(error, Failed):
            self.note_failure(candidate, error)
        else:
            self.counts.refusals[candidate.peer] += 1

    def note_done(self, source: Source, done: Done) -> None:
        """Its answer came to its end."""
        source.visit.tokens = done.usage.prompt_tokens + done.usage.completion_tokens
        if done.load is not None:
            self._note_load(source.candidate, source.visit.ticket.model, done.load)

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


def _claim(attempts: Attempts) -> Claim:
    request = attempts.request
    texts = [request.prompt, *request.inputs, *(str(message.get("content")) for message in request.messages)]
    prompt = sum(len(text) // (_CHARACTERS_PER_TOKEN if isinstance(text, str) else 1) for text in texts)
    answers = (_ANSWER_TOKENS if request.max_tokens is None else request.max_tokens) * slots_of(request)
    return Claim(
        ModelReference.parse(request.model).name,
        Tenant(request.routing.tenant),
        # Who reads a stream that broke off has had its turn.
        _PRIORITY_OF_RESUMED if attempts.is_onward else request.priority,
        prompt + answers,
        attempts.waits_until,
    )


def _like(attempts: Attempts) -> Hashable:
    """What decides where a request may go: who agrees in it with one that finds no place finds none."""
    request = attempts.request
    where = (request.model, request.kind, request.routing.only, attempts.left_out)
    return (*where, slots_of(request), attempts.is_onward)


def _expected_first_words(candidate: Candidate) -> float:
    """Seconds until its first content. All alike, as long as nobody estimates them."""
    del candidate
    return 1.0


@contextmanager
def _timed(note: Callable[[float], None]) -> Iterator[None]:
    """`note` is told how many seconds this was held, however it was left."""
    began_at = trio.current_time()
    try:
        yield
    finally:
        note(trio.current_time() - began_at)


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
