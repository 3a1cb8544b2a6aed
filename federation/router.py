"""The router: who could serve a request, in how many seconds, and who is asked.

    request -> work ---> survey --> candidates, with what each would cost --> choose --> lease
                           |        others, with why they cannot
      view of the swarm ---+
      speeds, reports, affinity, circuits, own leases <--- accepted, heard, ended, failed

Everything it knows of peers it is told: the view with each survey, and through its leases
what came of each request. Reads no clock: every event brings the time, in seconds of one
clock. Between `survey` and `lease` there must be no `await`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

from federation import directory, priors
from federation.affinity import Affinity
from federation.backend import Done, InferenceRequest, PolicyName
from federation.balancer import Candidate, Rank, pick
from federation.circuit import Circuits
from federation.cost import PeerWork, Remaining, cost
from federation.errors import FederationError, refusal_of
from federation.infer import PROGRESS_INTERVAL
from federation.lease import Lease, Leases
from federation.reports import Reports
from federation.speeds import PeerSpeed, Speeds
from federation.work import Work, WorkEstimator
from ledger.records import ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId

_MEASURED_TOKENS = 16
_MEASURED_SECONDS = 0.5
"""Tokens, or seconds, of one answer that make a measurement: tokens come a few at a time, and a slow peer is
to be known as slow long before its answer ends."""
_WAITED_MIN = 0.5
"""The part of them during which we must have waited for the peer: of a client that reads slowly we learn
nothing about its peer."""
_SILENCE_USUAL = PROGRESS_INTERVAL + 0.5
"""Seconds: a worker says at least that it is at work, and half a second more is a slow way."""
_ROUND_TRIP = 0.05
"""Seconds, where it was not measured: there is no connection yet, and making one takes a few of them."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A node that has the model and cannot serve the request now."""

    peer: PeerId
    node_name: str
    reason: str
    """For a person, after the node's name."""
    retry_in: float = 0.0
    """Seconds until it may be tried again, infinite: until somebody's try has ended; 0: it is not sick."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a request finds in the swarm."""

    work: Work
    candidates: tuple[Candidate, ...]
    """Also those that are full."""
    excluded: tuple[Excluded, ...]


class Router:
    """Knows what peers did, and says who should do what comes next. One per front."""

    def __init__(self, me: PeerId, *, serves_locally: bool, policy: PolicyName = "eta") -> None:
        self.leases = Leases()
        self.policy: PolicyName = policy
        """The swarm's, for requests that name none."""
        self._me = me
        self._serves_locally = serves_locally
        self._estimator = WorkEstimator()
        self._speeds = Speeds()
        self._reports = Reports()
        self._affinity = Affinity()
        self._circuits = Circuits()

    def work(self, request: InferenceRequest) -> Work:
        """What `request` takes, whose model's name is no alias any more."""
        return self._estimator.work(request)

    def survey(
        self,
        work: Work,
        nodes: Iterable[NodeView],
        now: float,
        ahead: int = 0,
        left_out: frozenset[PeerId] = frozenset(),
    ) -> Survey:
        """Who of `nodes` could do `work` at `now`, and why the others that have its model cannot.

        `ahead`: how many requests for that model wait at this front and get the next slots. `left_out`: who
        is not asked, and so keeps nobody else from being dialled.
        """
        able: list[tuple[NodeView, ModelRecord]] = []
        excluded: list[Excluded] = []
        for node, record in directory.holders(nodes, work.model):
            if node.peer == self._me and not self._serves_locally:
                continue
            hindrance = self._excluded(work, node, record, now)
            if hindrance is not None:
                excluded.append(hindrance)
            else:
                able.append((node, record))
        # Of nodes that are not connected it is not known how busy they are, and asking one takes a dial.
        near = [(node, record) for node, record in able if node.is_connected and node.peer not in left_out]
        if near:
            far = [node for node, _ in able if not node.is_connected]
            excluded += [Excluded(node.peer, node.name, "is not connected, and others are") for node in far]
        return Survey(work, tuple(self._candidates(work, near or able, now, ahead)), tuple(excluded))

    def choose(self, candidates: Sequence[Candidate], work: Work, rng: Random) -> Candidate | None:
        """Whom of `candidates` to ask. None: all are full, or waiting for one that is takes less time."""
        return pick(candidates, work.policy or self.policy, rng)

    @contextmanager
    def lease(self, candidate: Candidate, work: Work, now: float) -> Iterator[Lease]:
        """Count what `work` takes on `candidate`. Released on success, error and cancellation alike."""
        peer, model = candidate.peer, candidate.model
        lease = Lease(
            peer,
            model,
            work,
            began_at=now,
            slots=candidate.slots_needed,
            cached_share=self._affinity.cached_share(peer, model, work.prefix),
            held_share=self._affinity.held_share(peer, model, work.prefix),
            was_cold=candidate.state == "cold",
            is_probe=self._circuits.began(peer, model),
        )
        try:
            with self.leases.hold(lease):
                yield lease
        finally:
            if lease.is_probe and not lease.is_settled:
                self._circuits.abandoned(peer, model)

    def accepted(self, lease: Lease, prompt_tokens: int, now: float) -> None:
        """The peer took the request; `prompt_tokens`: what it found in the prompt, 0 if it does not say."""
        if lease.was_cold:
            self._speeds.loaded(lease.peer, lease.model, now - lease.began_at, now)
        lease.heard_at = now
        self._estimator.accepted(lease.work, prompt_tokens)

    def heard(self, lease: Lease, tokens: int, waited: float, now: float) -> None:
        """The next event came after we waited `waited` seconds for it: `tokens`, or 0 for progress."""
        if tokens and lease.begun_at is None:
            lease.begun_at = now
            lease.tokens += tokens
            lease.concurrency = self._busy(lease.peer, lease.model, now)
            self._affinity.read(lease.peer, lease.model, lease.work.prefix)
        elif lease.begun_at is not None and lease.work.answer_tokens:
            lease.unmeasured_seconds += now - lease.heard_at
            lease.waited_seconds += waited
            lease.unmeasured_tokens += tokens / lease.work.choices
            lease.tokens += tokens
            if lease.unmeasured_tokens >= _MEASURED_TOKENS or (
                tokens and lease.unmeasured_seconds >= _MEASURED_SECONDS
            ):
                self._measure(lease, now)
        lease.heard_at = now

    def ended(self, lease: Lease, done: Done, now: float) -> None:
        """The answer came to its end."""
        peer, model = lease.peer, lease.model
        if lease.unmeasured_tokens and lease.unmeasured_seconds:
            self._measure(lease, now)
        if not lease.work.is_resumed:
            # Else it read what was delivered too, which is none of the prompt's tokens.
            uncached = done.usage.prompt_tokens - done.usage.cached_tokens
            self._speeds.read(peer, model, uncached, done.timings.prefill, now)
        self._affinity.answered(
            peer, model, lease.held_share, done.usage.prompt_tokens, done.usage.cached_tokens
        )
        self._estimator.answered(lease.work, lease.tokens, done.finish_reasons)
        if done.load is not None:
            own = self.leases.count(peer, model) - lease.slots
            self._reports.told(peer, model, done.load, max(own, 0), now)
        self._circuits.succeeded(peer, model, now)
        lease.is_settled = True

    def failed(self, lease: Lease, error: FederationError, now: float) -> None:
        """The peer did not serve the request, or not to its end."""
        refusal = refusal_of(error)
        if refusal.load is not None:
            own = self.leases.count(lease.peer, lease.model) - lease.slots
            self._reports.told(lease.peer, lease.model, refusal.load, max(own, 0), now)
        if refusal.reason in _SICK:
            self._circuits.failed(lease.peer, lease.model, lease.began_at, now)
            lease.is_settled = True

    def _excluded(self, work: Work, node: NodeView, record: ModelRecord, now: float) -> Excluded | None:
        """Why `node`, which has the model, cannot serve `work`; None: it can."""
        peer, name = node.peer, node.name
        if not all(directory.is_named(node, names) for names in work.only):
            return Excluded(peer, name, "is none of the nodes that were asked for")
        if reason := directory.obstacle(node, record, work.kind):
            return Excluded(peer, name, reason)
        wait = self._circuits.retry_in(peer, record.name, now)
        if wait == 0:
            return None
        again = "is being tried once more" if math.isinf(wait) else f"is tried again in {wait:.1f} s"
        failures = self._circuits.failures(peer, record.name)
        return Excluded(peer, name, f"failed {failures} times in a row, and {again}", wait)

    def _candidates(
        self, work: Work, able: Sequence[tuple[NodeView, ModelRecord]], now: float, ahead: int
    ) -> Iterator[Candidate]:
        speeds = self._speeds_of(able, now)
        for node, record in able:
            load = node.loads.get(record.name)
            own = self.leases.count(node.peer, record.name)
            self._reports.seen(node.peer, record.name, load, own, now - (node.last_seen or 0.0))
            peer_work = self._peer_work(work, node, record, now)
            if own + work.slots > peer_work.slots:
                # What waits for others has its way to them, and does not stand in ours.
                peer_work = replace(peer_work, queued=peer_work.queued + ahead)
            cached = self._affinity.cached_share(node.peer, record.name, work.prefix)
            yield Candidate(
                peer=node.peer,
                node_name=node.name,
                model=record.name,
                state=record.state,
                slots_total=peer_work.slots,
                leases=own,
                reported_busy=peer_work.others,
                sha256=record.sha256,
                is_local=node.peer == self._me,
                cost=cost(
                    work.prompt_tokens * (1 - cached),
                    work.answer_tokens,
                    work.choices,
                    peer_work,
                    speeds[node.peer],
                ),
                rank=_rank(node, work),
                weight=node.weight,
                slots_needed=work.slots,
            )

    def _peer_work(self, work: Work, node: NodeView, record: ModelRecord, now: float) -> PeerWork:
        peer, model = node.peer, record.name
        load = node.loads.get(model)
        leases = [lease for lease in self.leases.of(peer, model) if lease.slots]
        return PeerWork(
            # A model that is not loaded has no slots to report, and will have those of its record.
            slots=load.slots_total if load and load.slots_total else record.slots,
            running=[row for lease in leases for row in self._remaining(lease)],
            others=self._reports.busy(peer, model, now),
            queued=self._reports.queued(peer, model, now),
            typical=Remaining(work.prompt_tokens, self._estimator.typical_answer(model)),
            silence=max([0.0, *(now - lease.heard_at - _SILENCE_USUAL for lease in leases)]),
            is_cold=record.state != "loaded" and not (load and load.is_loaded),
            round_trip=_ROUND_TRIP if node.rtt is None else node.rtt,
            times=self._circuits.times(peer, model, now),
        )

    def _remaining(self, lease: Lease) -> list[Remaining]:
        """What a lease still has to do, a row for each of its slots."""
        work = lease.work
        left = self._estimator.remaining(work, lease.tokens / work.choices)
        unread = 0.0 if lease.begun_at is not None else work.prompt_tokens * (1 - lease.cached_share)
        first = Remaining(unread, left)
        # The choices of one prompt share its reading.
        return [first, *[Remaining(0.0, left)] * (lease.slots - 1)]

    def _speeds_of(
        self, able: Sequence[tuple[NodeView, ModelRecord]], now: float
    ) -> Mapping[PeerId, PeerSpeed]:
        guesses = {node.peer: priors.guess(record.size_bytes, node.hardware) for node, record in able}
        known = []
        for node, record in able:
            alone = self._speeds.measured_alone(node.peer, record.name, now)
            alone = alone or priors.reported_alone(node.loads.get(record.name))
            if alone is not None:
                known.append((alone, guesses[node.peer]))
        corrected = priors.correction(known)
        return {
            node.peer: self._speeds.of(
                node.peer,
                record.name,
                priors.prior_of(
                    guesses[node.peer], corrected, record.size_bytes, node.loads.get(record.name)
                ),
                now,
            )
            for node, record in able
        }

    def _busy(self, peer: PeerId, model: ModelName, now: float) -> float:
        """Answers that run there."""
        return self.leases.count(peer, model) + self._reports.busy(peer, model, now)

    def _measure(self, lease: Lease, now: float) -> None:
        busy = self._busy(lease.peer, lease.model, now)
        if lease.waited_seconds >= _WAITED_MIN * lease.unmeasured_seconds:
            self._speeds.decoded(
                lease.peer,
                lease.model,
                lease.unmeasured_tokens,
                lease.unmeasured_seconds,
                concurrency=(lease.concurrency + busy) / 2,
                now=now,
            )
        lease.unmeasured_tokens = lease.unmeasured_seconds = lease.waited_seconds = 0.0
        lease.concurrency = busy


_SICK = frozenset({"model_failed", "no_such_model"})
"""Refusals that say something about the peer. Who is busy, or about to stop, is well; who does not have what
its record says is of no use until the record is mended."""


def _rank(node: NodeView, work: Work) -> Rank:
    if directory.is_named(node, work.prefer):
        return "preferred"
    return "avoided" if directory.is_named(node, work.avoid) else "normal"
