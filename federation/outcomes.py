"""Outcomes: what came of each asking, told to everybody whose business it is.

refused      router, turns (it is busy), attempts (whom to leave out), counts
failed       router, counts, and who watches peers, if it was the peer and not its engine
an event     router (speeds, and how much is left), and who keeps loads
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from federation.attempts import Attempts
from federation.backend import Answer, AnswerEvent, Chunk, Done
from federation.balancer import Candidate
from federation.counts import Counts
from federation.errors import Failed, FederationError, PeerGone, Stalled, refusal_of
from federation.lease import Lease
from federation.router import Router
from federation.source import Source
from federation.turns import Turns
from ledger.probe import Loads
from ledger.records import Load, ModelName
from p2p.peer import PeerId

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcomes:
    """Of all requests of one front."""

    router: Router
    turns: Turns
    on_peer_failure: Callable[[PeerId, str], None]
    """Hears of peers that seem dead, never of engines that failed."""
    on_load: Callable[[PeerId, Loads], None]
    """Hears what peers say of their load."""
    counts: Counts = field(default_factory=Counts)

    def accepted(self, candidate: Candidate, lease: Lease, answer: Answer, attempts: Attempts) -> None:
        """It serves it."""
        self.router.accepted(lease, answer.prompt_tokens, trio.current_time())
        if attempts.is_onward:
            self.counts.resumes[candidate.peer] += 1
        elif attempts.count:
            self.counts.retries[candidate.peer] += 1

    def refused(self, candidate: Candidate, lease: Lease, error: FederationError, attempts: Attempts) -> None:
        """It does not serve it, as `attempts` is to know."""
        # `%r`, because a peer's own words must not look like other lines of the log.
        logger.info("request %s: %s did not serve it: %r", attempts.request.request_id, candidate.peer, error)
        refusal = refusal_of(error)
        if refusal.load is not None:
            self._note_load(candidate, lease.model, refusal.load)
        if refusal.reason == "busy":
            self.turns.refused(candidate, lease.model, lease.slots)
        attempts.note(candidate, error)
        if isinstance(error, Failed):
            self.failed(candidate, lease, error)
        else:
            self.router.failed(lease, error, trio.current_time())
            self.counts.refusals[candidate.peer] += 1

    def failed(self, candidate: Candidate, lease: Lease, error: Failed) -> None:
        """It had accepted a request, and could not go on."""
        self.router.failed(lease, error, trio.current_time())
        self.counts.failures[candidate.peer] += 1
        if isinstance(error, Stalled):
            self.counts.stalls[candidate.peer] += 1
        if isinstance(error, PeerGone) and not candidate.is_local:
            self.on_peer_failure(candidate.peer, str(error))

    def heard(self, source: Source, event: AnswerEvent, waited: float) -> None:
        """It said `event`, for which we waited so many seconds."""
        now = trio.current_time()
        match event:
            case Chunk():
                # A server that tells no ids, and a vector, count as one token for each chunk.
                self.router.heard(source.lease, len(event.token_ids) or 1, waited, now)
            case Done():
                source.visit.tokens = source.lease.spent(event.usage)
                self.router.ended(source.lease, event, now)
                if event.load is not None:
                    self._note_load(source.candidate, source.visit.ticket.model, event.load)
            case _:
                self.router.heard(source.lease, 0, waited, now)

    def _note_load(self, candidate: Candidate, model: ModelName, load: Load) -> None:
        if not candidate.is_local:
            self.on_load(candidate.peer, {model: load})
