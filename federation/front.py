"""The front: the whole swarm as one backend.

    request -> relay -> client
                 |  ^
                 |  +-- events of a worker or a peer, and after its failure, death or silence of the next one
                 +----> sources: whose turn it is, and who is asked
                 +----> outcomes: what came of it

An answer is handed out once its first content is there, or all of it if the client wants it whole
(`relay.py`). Until then a peer that refuses, fails or dies costs the client nothing but time: the
next one is asked. After that another one goes on with it (`continuation.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from federation import directory
from federation.aliases import resolve
from federation.backend import Answer, InferenceRequest, Infers, ModelInfo, PolicyName
from federation.backends import Backends
from federation.counts import Counts
from federation.errors import ModelNotFound
from federation.explain import explain
from federation.gated_backend import GatedBackend
from federation.hedge import Hedge
from federation.lease import Leases
from federation.outcomes import Outcomes
from federation.relay import Relay
from federation.router import Router
from federation.sources import SwarmSources, View
from federation.turns import Feeds, Turns
from federation.waiting_room import Waiting
from ledger.probe import Loads
from ledger.records import ModelName
from p2p.peer import PeerId


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
        policy: PolicyName = "eta",
        hedge: float = 0.0,
    ) -> None:
        """`hedge`: the share of streams, 0 to 1, that may go to one more peer when the first is late."""
        self._view = view
        self._router = Router(me, serves_locally=local is not None, policy=policy)
        self._turns = Turns(me, view, local, feeds)
        self._outcomes = Outcomes(self._router, self._turns, on_peer_failure, on_load)
        self._sources = SwarmSources(
            view,
            self._router,
            self._turns,
            Backends(me, view, local, remote),
            self._outcomes,
            rng,
            Hedge(hedge, self._outcomes) if hedge > 0 else None,
        )

    @property
    def counts(self) -> Counts:
        """What no client noticed, since it started."""
        return self._outcomes.counts

    @property
    def leases(self) -> Leases:
        """The slots that our requests hold."""
        return self._router.leases

    def models(self) -> Sequence[ModelInfo]:
        """Every model that some node can be asked for, under each of its names once, sorted by name."""
        return directory.models(self._view.nodes(), self._view.aliases())

    def explain(self, request: InferenceRequest) -> Mapping[str, Any]:
        """Where `request` would go if it came now, and why: see `explain.py`.

        Raises:
          ModelNotFound: nobody has its model.
        """
        work = self._router.work(resolve(request, self._view.aliases()))
        line = self.waiting().get(work.model.name)
        ahead = line.waiting if line else 0
        survey = self._router.survey(work, self._view.nodes(), trio.current_time(), ahead)
        if not survey.candidates and not survey.excluded:
            raise ModelNotFound(f"no node of the swarm has {request.model}")
        return {"model": request.model, **explain(survey, work.policy or self._router.policy)}

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        """Have somebody serve `request`; see `Infers`.

        Entering returns at the first content of a stream, or at the end of an answer that is delivered
        whole, and raises neither Refused nor Failed. `Answer.events` may raise Failed: somebody began
        a stream, could not go on, and neither could anybody else; says why.
        """
        relay = Relay(self._sources, resolve(request, self._view.aliases()))
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
