"""Sources: has one peer serve a request, or what is left of it.

    attempts -> room -> router: survey, choose, lease -> worker or peer -> source
                 ^                                           |
                 +-- back to its place in line, busy --------+
                 +-- another peer ---------------------------+   refused

Who finds no slot waits in the room (`room.py`), which says whose turn it is; choosing and leasing happen
without an `await` in between, so one front never overbooks a peer. The lease is released on success,
error and cancellation alike, which is news for who waits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Protocol

import trio

from federation import directory, turns
from federation.aliases import Aliases
from federation.attempts import Attempts
from federation.backend import Answer, InferenceRequest
from federation.backends import Backends
from federation.balancer import Candidate
from federation.errors import (
    BadRequest,
    Busy,
    DeadlineExceeded,
    Failed,
    ModelNotFound,
    ModelUnavailable,
    Refused,
)
from federation.hedge import Hedge
from federation.lease import Lease
from federation.model_reference import ModelReference
from federation.outcomes import Outcomes
from federation.prospects import outlook
from federation.room import Claim, NoPlace, Visit
from federation.router import Router
from federation.source import Source
from federation.trace import Trace
from federation.turns import Turns
from federation.waiting_line import Tenant
from federation.work import Work
from ledger.records import ModelName

_CHOOSY_FOR = 1.0
"""Seconds after which one that waits for a better place looks again though nothing happened: the peer that it
waits for may have fallen silent."""
_PRIORITY_OF_RESUMED = 2**31
"""Larger than any that a request may have."""


class View(turns.View, Protocol):
    """What a front needs of `ledger.view.SwarmView`."""

    def aliases(self) -> Aliases:
        """Other names for models."""


@dataclass(slots=True)
class SwarmSources:
    """Those of one front, for all its requests."""

    view: View
    router: Router
    turns: Turns
    backends: Backends
    outcomes: Outcomes
    rng: Random
    hedge: Hedge | None = None
    """None: nobody is asked beside a peer that is late."""

    async def open(self, attempts: Attempts) -> Source:
        """Have somebody serve `attempts.request`, the faster one of two where the first one is late; else as
        `_ask`."""
        return await (self.hedge.open(attempts, self._ask) if self.hedge else self._ask(attempts))

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
            work = replace(self.router.work(attempts.request), is_resumed=attempts.is_onward)
            entering = self.turns.visit(_claim(attempts, work), takes_slot=work.slots > 0)
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
            answer = await held.enter_async_context(self.backends.of(candidate).infer(asked))
            _require_same_prompt(asked, answer)
        except BadRequest as error:
            if not attempts.is_onward:
                raise
            # It was good enough for who began it.
            self.outcomes.refused(candidate, lease, error, attempts)
        except (Refused, Failed, ModelNotFound, ModelUnavailable, Busy) as error:
            self.outcomes.refused(candidate, lease, error, attempts)
        else:
            self.outcomes.accepted(candidate, lease, answer, attempts)
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
        survey = self.router.survey(work, self.view.nodes(), now, visit.ahead, attempts.left_out)
        remaining = attempts.remaining(survey.candidates)
        if not remaining:
            nodes = self.view.nodes()
            hope = outlook(attempts, survey, nodes, directory.models(nodes, self.view.aliases()))
            return NoPlace(hope.patience, hope.verdict, hope.again_in)
        able = self.turns.askable(remaining, name, work.slots)
        if not attempts.is_onward:
            # Nothing is kept from an answer that goes on: its client is in the middle of a sentence.
            able = [each for each in able if each.peer not in visit.kept]
        chosen = self.router.choose(able, work, self.rng)
        if chosen is None:
            soonest = min(remaining, key=lambda each: (each.cost.total / each.weight, each.peer))
            waits_for = soonest.peer if work.slots > 1 else None
            if any(not each.is_full for each in able):
                return NoPlace(again_in=_CHOOSY_FOR, is_choosy=True, waits_for=waits_for)
            return self.turns.all_taken(remaining, name, waits_for)
        lease = held.enter_context(self.router.lease(chosen, work, now))
        way.enter_context(self.turns.asking(chosen, name, work.slots))
        return chosen, lease

    def file_of(self, candidate: Candidate, model: ModelName) -> str:
        """The sha256 of the file that `candidate` serves as `model`, in hex; empty: not known, still.

        It may be known only now: files are hashed in the background.
        """
        wanted = ModelReference.parse(model)
        return candidate.sha256 or directory.file_of(self.view.nodes(), candidate.peer, wanted)


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
