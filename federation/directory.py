"""The directory: what the swarm's nodes mean to a request for a model.

Turns the view of the swarm (`ledger/view.py`) into candidates, into the list of models,
and into words for why nobody can serve one now. Only nodes that are online are chosen: a
draining one takes nothing new, and a suspect one may be dead. Those we are connected to
come first; in a large swarm any other is connected when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from federation.backend import ModelInfo, RequestKind
from federation.balancer import Candidate
from federation.lease import Leases
from federation.model_reference import ModelReference
from ledger.records import Capability, ModelName, ModelRecord, ModelState
from ledger.view import NodeView
from p2p.peer import PeerId

_STATES: tuple[ModelState, ...] = ("loaded", "loading", "cold", "fetching", "failed")
"""Best first: how soon a request could be answered."""

_SERVABLE: frozenset[ModelState] = frozenset({"loaded", "loading", "cold"})
"""A worker loads a cold model when it is asked for it, and lets a request wait while it does."""


_CAPABILITIES: Mapping[RequestKind, Capability] = {"embeddings": "embeddings", "rerank": "rerank"}
"""What a model must be able to do for a request. A worker knows best whether it has a chat template, and
says so; a model that gives no vectors must not be loaded to find that out."""


def candidates(
    nodes: Iterable[NodeView], model: ModelName, leases: Leases, me: PeerId, kind: RequestKind = "chat"
) -> list[Candidate]:
    """Who could serve a request of `kind` for `model`, which may name one file by its hash, now.

    Of nodes that are not connected it is not known how busy they are, and asking one takes a dial:
    they are candidates where no other is.
    """
    able = [
        (node, record)
        for node, record in _holders(nodes, model)
        if node.state == "online" and record.state in _SERVABLE and _is_fit(record, kind)
    ]
    near = [(node, record) for node, record in able if node.is_connected]
    return [_candidate(node, record, leases, me) for node, record in near or able]


def obstacles(nodes: Iterable[NodeView], model: ModelName) -> list[str]:
    """Of each node that has `model` and cannot serve it now: why, for a person. Who is offline comes last."""
    there_first = sorted(nodes, key=lambda node: node.state == "offline")
    return [
        f"{node.name} {_obstacle(node, record)}"
        for node, record in _holders(there_first, model)
        if node.state != "online" or record.state not in _SERVABLE
    ]


def fit_holders(
    nodes: Iterable[NodeView], model: ModelName, kind: RequestKind
) -> Iterator[tuple[NodeView, ModelRecord]]:
    """Who has `model` and could serve a request of `kind` if nothing kept it from that."""
    return ((node, record) for node, record in _holders(nodes, model) if _is_fit(record, kind))


def file_of(nodes: Iterable[NodeView], peer: PeerId, model: ModelName) -> str:
    """The sha256 of the file that `peer` has of `model`, in hex; empty: not known."""
    return next((record.sha256 for node, record in _holders(nodes, model) if node.peer == peer), "")


def is_unfit(nodes: Iterable[NodeView], model: ModelName, kind: RequestKind) -> bool:
    """Whether `model` is there, and of no use for a request of `kind` anywhere."""
    records = [record for _, record in _holders(nodes, model)]
    return bool(records) and not any(_is_fit(record, kind) for record in records)


def models(nodes: Iterable[NodeView]) -> list[ModelInfo]:
    """Every model that some node can be asked for, once each, sorted by name."""
    records = [record for node in nodes if node.state == "online" for record in node.models]
    # Sorting keeps the order among equals: the first record of each name is one in the best state.
    records.sort(key=lambda record: (record.name, _STATES.index(record.state)))
    return [_model_info(list(same)) for _, same in groupby(records, key=lambda record: record.name)]


def _holders(nodes: Iterable[NodeView], model: ModelName) -> Iterator[tuple[NodeView, ModelRecord]]:
    wanted = ModelReference.parse(model)
    for node in nodes:
        for record in node.models:
            if wanted.is_met_by(record.name, record.sha256):
                yield node, record


def _is_fit(record: ModelRecord, kind: RequestKind) -> bool:
    needed = _CAPABILITIES.get(kind)
    return needed is None or needed in record.capabilities


def _candidate(node: NodeView, record: ModelRecord, leases: Leases, me: PeerId) -> Candidate:
    load = node.loads.get(record.name)
    # A model that is not loaded has no slots to report, and will have those of its record.
    slots_total = load.slots_total if load and load.slots_total else record.slots
    return Candidate(
        peer=node.peer,
        node_name=node.name,
        state=record.state,
        slots_total=slots_total,
        leases=leases.count(node.peer, record.name),
        reported_busy=load.slots_busy if load else 0,
        is_local=node.peer == me,
        sha256=record.sha256,
    )


def _obstacle(node: NodeView, record: ModelRecord) -> str:
    match node.state, record.state:
        case "offline", _:
            return "has it and is offline"
        case "draining", _:
            return "is about to stop"
        case "suspect", _:
            return "does not answer"
        case _, "fetching":
            return "is still fetching it"
        case _:
            return f"could not load it: {record.reason or 'no reason given'}"


def _model_info(records: list[ModelRecord]) -> ModelInfo:
    best = records[0]
    return ModelInfo(
        name=best.name,
        state=best.state,
        capabilities=tuple(sorted({capability for record in records for capability in record.capabilities})),
        context_size=max(record.context_size for record in records),
        reason=best.reason,
    )
