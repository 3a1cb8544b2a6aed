"""The parts of a node and how they hold each other. Nothing runs here yet.

    network -> swarm -> replicator -> ledger <- publisher <- local -> worker -> engines
                 |          prober -> view                     ^  +-> attached servers
                 |                      |                      |
                 +--- infer server -----|----- gate -----------+
                 |      load feeds      v                      |
                 +------------------- front -------------------+

`Parts` is also what the HTTP side asks about the node (`api/node_status.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import Any

import node
from api.model_manager import ModelManager
from federation.backend import InferenceRequest, RequestId
from federation.errors import ModelNotFound
from federation.front import Front
from federation.gated_backend import GatedBackend
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from federation.load_feed_client import LoadFeeds
from federation.load_feed_server import LoadFeedServer
from ledger.ledger import Ledger
from ledger.placement import Plan, plan
from ledger.probe import PROTOCOL_ID as PROBE_PROTOCOL
from ledger.prober import Prober
from ledger.records import Load, ModelName, ModelRecord
from ledger.replicate import Replicator
from ledger.sync_messages import LEDGER_PROTOCOL
from ledger.view import SwarmView
from node.attached.server import AttachedServer
from node.attached.together import LocalBackend, Together
from node.config import NodeConfig
from node.hardware import MODELS_MEMORY
from node.install.no_models import NoModels
from node.model_parts import ModelParts, galleries_of, own_models, wire_models
from node.models.errors import UnknownModel
from node.placement.hosts import hosts
from node.placement.wishes import placement_rows
from node.publisher import Publisher
from node.readiness import why_not_ready
from node.status import swarm_status
from node.suggest.adviser import Adviser
from node.suggest.look import look_at_swarm
from node.suggest.machine import Machine
from node.worker import Worker
from p2p.membership import SwarmMembership
from p2p.network import Network
from p2p.peer import PeerId
from p2p.swarm import Introduction, Swarm

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a running node consists of."""

    swarm_name: str
    members: Swarm
    ledger: Ledger
    replicator: Replicator
    prober: Prober
    view: SwarmView
    worker: Worker | None
    """Our own engines."""
    models: ModelParts | None
    """How their models come and go."""
    manager: ModelManager
    """What HTTP asks for that."""
    adviser: Adviser
    """Which models there are, and which fit where."""
    local: LocalBackend | None
    """All that runs models for this node: the worker, and the servers attached to it."""
    gated: GatedBackend | None
    """The same, shared among fronts."""
    publisher: Publisher
    feeds: LoadFeeds
    front: Front

    def swarm(self) -> Mapping[str, Any]:
        """The content of `/api/swarm`."""
        worker = self.worker
        return swarm_status(
            self.swarm_name,
            self.ledger.me,
            self.view.nodes(),
            self.front.leases,
            loaded_fractions=worker.loaded_fractions() if worker is not None else {},
            fetched_fractions=self.models.manager.fetched_fractions() if self.models is not None else {},
            placements=placement_rows(self.ledger.placement_records(), self._plan(), self.view.nodes()),
            waiting=self.front.waiting(),
            warning=worker.warning if worker is not None else "",
        )

    def plan_now(self) -> Plan:
        """Who should hold what, as it would be planned now. Too slow to be asked for each request."""
        if self.models is not None:
            return self.models.placer.plan_now()
        return plan(self.ledger.placement_records(), hosts(self.view.nodes(), ()))

    def engines(self) -> Mapping[str, Any]:
        """The content of `/backend/monitor`."""
        if self.worker is None:
            return {"budget_bytes": 0, "used_bytes": 0, "warning": "", "models": []}
        return self.worker.monitor()

    def explain_route(self, model: str, prompt_tokens: int, max_tokens: int | None) -> Mapping[str, Any]:
        """The content of `/api/route/explain`.

        Raises:
          ModelNotFound: nobody has it.
        """
        # Any ids will do: only their number counts.
        asked = InferenceRequest(
            "completion",
            RequestId("explain"),
            ModelName(model),
            prompt=range(prompt_tokens),
            max_tokens=max_tokens,
        )
        return self.front.explain(asked)

    async def shut_down(self, model: str) -> bool:
        """Take a model of this node out of memory once nothing runs on it; returns whether it was there.

        Raises:
          ModelNotFound: this node has none of that name.
        """
        name = ModelName(model)
        if self.worker is None:
            raise ModelNotFound(f"this node runs no models, so it has no {name}")
        try:
            return await self.worker.unload_model(name)
        except UnknownModel as error:
            raise ModelNotFound(str(error)) from error

    def refused_entries(self) -> Mapping[str, int]:
        """How many ledger entries that peers sent did not enter, by reason."""
        return {str(reason): count for reason, count in self.ledger.refusals.items()}

    def peer_counts(self) -> Mapping[str, Mapping[str, int]]:
        """What was counted of each peer, by what it is and peer id."""
        counts = dict(self.front.counts.by_name())
        if self.models is not None:
            counts["fetched_bytes"] = {str(peer): size for peer, size in self.models.fetcher.received.items()}
            counts["uploaded_bytes"] = {str(peer): size for peer, size in self.models.seeder.uploaded.items()}
        return counts

    def uploads(self) -> Sequence[Mapping[str, Any]]:
        """To whom models were uploaded since this node started, the most first."""
        if self.models is None:
            return []
        seeder, names = self.models.seeder, {node.peer: node.name for node in self.view.nodes()}
        under_way = seeder.uploading()
        return [
            {"peer": peer, "name": names.get(peer, peer), "size_bytes": size, "is_running": peer in under_way}
            for peer, size in seeder.uploaded.most_common()
        ]

    def readiness(self) -> str | None:
        """Why nothing can be served now, or None."""
        online = [row for row in self.view.nodes() if row.state == "online"]
        return why_not_ready(
            self.front.models(),
            nodes_online=len(online),
            is_draining=self.publisher.presence != "here",
        )

    async def drain(self) -> None:
        """Take nothing new from now on, and wait until nothing runs here. Cancelled: still nothing new."""
        self.publisher.set_presence("draining")
        if self.local is not None:
            await self.local.drain()

    def _plan(self) -> Plan:
        """As it was made last; a front makes none, as it has no part in it."""
        return self.models.placer.plan if self.models is not None else Plan({}, {})

    def running(self) -> int:
        """How many answers this node's own worker gives now, attached servers included."""
        return sum(load.slots_busy for load in self.local.load().values()) if self.local else 0


def wire(
    config: NodeConfig,
    place: SwarmMembership,
    network: Network,
    ledger: Ledger,
    *,
    boot_id: str,
    hardware: Mapping[str, Any],
) -> Parts:
    """The parts of the node of `config`, connected. `boot_id` is new in each process."""
    rng = SystemRandom()
    introduction = Introduction(config.name, node.__version__, boot_id)
    standing = (PROBE_PROTOCOL, LEDGER_PROTOCOL)
    swarm = Swarm(network, place, introduction, rng=rng, wall_clock=time.time, standing=standing)
    own = own_models(config, network.me) if config.worker else None
    worker = own.worker if own is not None else None
    local = _local(config, worker, network.me)
    gated = GatedBackend(local, local.load) if local is not None else None
    loads = gated.loads if gated is not None else _no_loads
    prober = Prober(swarm, ledger, loads, rng)
    view = SwarmView(ledger, prober, loads)

    def is_busy() -> bool:
        return any(load.slots_busy for load in loads().values()) or len(front.leases) > 0

    models = None
    if own is not None:
        models = wire_models(config, swarm, ledger, view, own, is_inference_busy=is_busy)
    declared = hardware if worker is None else {**hardware, MODELS_MEMORY: worker.monitor()["budget_bytes"]}
    publisher = _publisher(config, network, ledger, declared, partial(_published, local, models))
    if local is not None and gated is not None:
        load_server = LoadFeedServer(gated)
        load_server.attach(swarm)
        if models is not None:
            models.coming.on_change = publisher.note_change
        local.on_change = partial(_note_change, publisher, load_server)
        loading = worker.loaded_fractions if worker is not None else _nothing_loads
        InferServer(gated.for_front, gated.load, loading).attach(swarm)
    feeds = LoadFeeds(swarm, prober.note_loads)
    front = Front(
        network.me,
        view,
        local=gated,
        remote=partial(RemoteBackend, swarm, pulse=prober),
        feeds=feeds,
        rng=rng,
        on_load=prober.note_loads,
        on_peer_failure=prober.report_failure,
        policy=config.policy,
        hedge=config.hedge,
    )
    feeds.on_offer = front.note_offer
    return Parts(
        swarm_name=place.swarm,
        members=swarm,
        ledger=ledger,
        replicator=Replicator(swarm, ledger, prober.is_doubtful, rng),
        prober=prober,
        view=view,
        worker=worker,
        models=models,
        manager=models.manager if models is not None else NoModels(view.nodes, galleries_of(config)),
        adviser=_adviser(config, view, network.me, worker),
        local=local,
        gated=gated,
        publisher=publisher,
        feeds=feeds,
        front=front,
    )


def _adviser(config: NodeConfig, view: SwarmView, me: PeerId, worker: Worker | None) -> Adviser:
    async def look() -> Sequence[Machine]:
        return await look_at_swarm(view.nodes(), me, worker, config.home.models)

    return Adviser(config.galleries, config.home.galleries, look)


def _note_change(publisher: Publisher, load_server: LoadFeedServer) -> None:
    publisher.note_change()
    load_server.note_change()


def _publisher(
    config: NodeConfig,
    network: Network,
    ledger: Ledger,
    hardware: Mapping[str, Any],
    models: Callable[[], Sequence[ModelRecord]],
) -> Publisher:
    return Publisher(
        ledger,
        name=config.name,
        role="worker" if config.worker or config.backends else "front",
        version=node.__version__,
        hardware=hardware,
        addresses=lambda: [address.multiaddr for address in network.listen_addresses],
        models=models,
        labels=config.labels,
        weight=config.weight,
        models_size_max=config.models_size_max if config.worker else 0,
    )


def _local(config: NodeConfig, worker: Worker | None, me: PeerId) -> LocalBackend | None:
    """The worker and the attached servers, whichever there are."""
    servers = [
        AttachedServer(me, url, key=config.backend_key, slots=config.backend_slots) for url in config.backends
    ]
    if not servers:
        return worker
    return Together([worker, *servers] if worker is not None else servers)


def _no_loads() -> Mapping[ModelName, Load]:
    return {}


def _nothing_loads() -> Mapping[ModelName, float]:
    return {}


def _published(local: LocalBackend | None, models: ModelParts | None) -> Sequence[ModelRecord]:
    """What the swarm is told of this node's models."""
    served = local.model_records() if local is not None else []
    return models.records(served) if models is not None else served
