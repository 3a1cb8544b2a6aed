"""The swarm as this node sees it: the ledger's records, joined with who is alive and how busy.

    view = SwarmView(ledger, prober, own_loads)
    nursery.start_soon(view.run)
    view.nodes()                                    # cheap: asked at every request

A node is listed as soon as its record is here, and until it has left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import trio

from ledger.beliefs import PeerHealth
from ledger.ledger import Ledger
from ledger.probe import Loads
from ledger.prober import LoadSource
from ledger.records import AliasRecord, Load, ModelName, ModelRecord, NodeRecord, NodeRole
from ledger.rumour import Status
from p2p.peer import PeerId
from p2p.revision import Revision

NodeState: TypeAlias = Literal["online", "suspect", "draining", "offline"]

_FRESH_FOR = 0.5
"""Seconds a view may be used unchanged: `rtt` and `last_seen` move on although nothing happens."""


class Liveness(Protocol):
    """Who is alive, and how busy: a `Prober`."""

    revision: Revision

    def now(self) -> float:
        """Seconds, of the clock that `PeerHealth.heard_at` is of."""

    def health(self, peer: PeerId) -> PeerHealth: ...

    def loads(self, peer: PeerId) -> Loads: ...


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, as this one sees it."""

    peer: PeerId
    name: str
    state: NodeState
    role: NodeRole
    version: str
    """Of its program."""
    rtt: float | None = None
    """Round trip in seconds; None without a connection, 0 to ourselves."""
    last_seen: float | None = None
    """Seconds since it was last heard, 0 for ourselves; None: not since we started."""
    is_connected: bool = False
    """We have a connection to it. An online node without one is alive, and others can reach it."""
    models: tuple[ModelRecord, ...] = ()
    """Sorted by name."""
    loads: Mapping[ModelName, Load] = field(default_factory=dict)
    """As it said last; empty while it is offline."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    """What else requests may call it by: its owner's words."""
    weight: float = 1.0
    """How much its owner wants it to be used: 2 is as if it was twice as fast."""
    models_size_max: int = 0
    """Bytes of models that the swarm may place there; 0: none."""
    warnings: tuple[str, ...] = ()
    """For a person."""


class SwarmView:
    """All nodes, up to date."""

    def __init__(self, ledger: Ledger, liveness: Liveness, own_loads: LoadSource) -> None:
        self.revision = Revision()
        """Rises after each change of records, of a peer's status or of its load."""
        self._ledger = ledger
        self._liveness = liveness
        self._own_loads = own_loads
        self._nodes: list[NodeView] = []
        self._seen: tuple[int, int, Loads] | None = None
        self._fresh_until = 0.0
        self._aliases: Mapping[ModelName, AliasRecord] = {}
        self._aliases_seen: int | None = None

    def nodes(self) -> list[NodeView]:
        """Every node that has a place in the swarm, ourselves included, sorted by name."""
        now = trio.current_time()
        seen = (self.revision.number, self._liveness.revision.number, dict(self._own_loads()))
        if seen != self._seen or now >= self._fresh_until:
            self._nodes = sorted(self._look(), key=lambda node: (node.name, node.peer))
            self._seen = seen
            self._fresh_until = now + _FRESH_FOR
        return list(self._nodes)

    def aliases(self) -> Mapping[ModelName, AliasRecord]:
        """Other names for models, by the name."""
        if self._aliases_seen != self.revision.number:
            self._aliases = {record.alias: record for record in self._ledger.alias_records()}
            self._aliases_seen = self.revision.number
        return self._aliases

    async def run(self) -> None:
        """Follow the ledger and the prober until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_liveness)
            with self._ledger.subscribe() as changes:
                async for _ in changes:
                    self.revision.rise()

    async def _follow_liveness(self) -> None:
        number = self._liveness.revision.number
        while True:
            number = await self._liveness.revision.after(number)
            self.revision.rise()

    def _look(self) -> Iterable[NodeView]:
        records = {peer: self._ledger.node_record(peer) for peer in self._ledger.owners()}
        present = {peer: record for peer, record in records.items() if record}
        models = {peer: self._models(peer) for peer in present}
        warnings = _name_clashes(models)
        for peer, record in present.items():
            yield self._row(peer, record, models[peer], tuple(warnings[peer]))

    def _models(self, peer: PeerId) -> tuple[ModelRecord, ...]:
        """What `peer` serves. A client may ask and not serve: its word that it does is worth nothing."""
        return () if self._ledger.role(peer) == "client" else tuple(self._ledger.model_records(peer))

    def _row(
        self,
        peer: PeerId,
        record: NodeRecord,
        models: tuple[ModelRecord, ...],
        warnings: tuple[str, ...],
    ) -> NodeView:
        if peer == self._ledger.me:
            health = PeerHealth(is_linked=True, heard_at=self._liveness.now(), round_trip=0.0)
            state: NodeState = "online" if record.presence == "here" else "draining"
            loads: Loads = self._own_loads()
        else:
            health = self._liveness.health(peer)
            state = _state(record, health.status)
            loads = self._liveness.loads(peer) if state != "offline" else {}
        return NodeView(
            peer=peer,
            name=record.name,
            state=state,
            role=record.role,
            version=record.version,
            rtt=health.round_trip,
            last_seen=None if health.heard_at is None else self._liveness.now() - health.heard_at,
            is_connected=health.is_linked,
            models=models,
            loads=loads,
            hardware=record.hardware,
            labels=record.labels,
            weight=record.weight,
            models_size_max=record.models_size_max,
            warnings=warnings,
        )


def _state(record: NodeRecord, status: Status) -> NodeState:
    """What is to be thought of a peer: its own word that it is away counts at once."""
    if record.presence == "away" or status in (Status.UNKNOWN, Status.OFFLINE):
        return "offline"
    if status is Status.SUSPECT:
        return "suspect"
    return "draining" if record.presence == "draining" else "online"


def _name_clashes(models: Mapping[PeerId, tuple[ModelRecord, ...]]) -> dict[PeerId, list[str]]:
    """Warnings for those who have a model whose name means other bytes elsewhere."""
    files: dict[ModelName, set[str]] = defaultdict(set)
    for records in models.values():
        for model in records:
            files[model.name] |= {model.sha256} - {""}
    warnings: dict[PeerId, list[str]] = defaultdict(list)
    for peer, records in models.items():
        for model in records:
            if model.sha256 and len(files[model.name]) > 1:
                warnings[peer].append(
                    f"model {model.name} is not the same file on all nodes (here {model.sha256[:12]}): "
                    "an answer may differ from node to node"
                )
    return warnings
