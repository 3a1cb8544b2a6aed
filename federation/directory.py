"""The directory: what the swarm's nodes mean to a request for a model.

Turns the view of the swarm (`ledger/view.py`) into who has a model, into the list of models,
and into words for why a node cannot serve one now. Only nodes that are online can: a
draining one takes nothing new, and a suspect one may be dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from federation.aliases import Aliases
from federation.backend import ModelInfo, RequestKind
from federation.model_reference import ModelReference
from ledger.records import Capability, ModelRecord, ModelState
from ledger.view import NodeView
from p2p.peer import PeerId

_STATES: tuple[ModelState, ...] = ("loaded", "loading", "cold", "fetching", "failed")
"""Best first: how soon a request could be answered."""

_SERVABLE: frozenset[ModelState] = frozenset({"loaded", "loading", "cold"})
"""A worker loads a cold model when it is asked for it, and lets a request wait while it does."""


_CAPABILITIES: Mapping[RequestKind, Capability] = {"embeddings": "embeddings", "rerank": "rerank"}
"""What a model must be able to do for a request. A worker knows best whether it has a chat template, and
says so; a model that gives no vectors must not be loaded to find that out."""


def holders(nodes: Iterable[NodeView], wanted: ModelReference) -> Iterator[tuple[NodeView, ModelRecord]]:
    """Each node that has the `wanted` model, with its record of it."""
    for node in nodes:
        for record in node.models:
            if wanted.is_met_by(record.name, record.sha256):
                yield node, record


def obstacle(node: NodeView, record: ModelRecord, kind: RequestKind) -> str:
    """Why `node` cannot serve a request of `kind` now, for a person, after its name; empty: it can."""
    if node.state == "online" and record.state in _SERVABLE:
        return "" if _is_fit(record, kind) else f"has it, and it is not for {kind}"
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


def is_named(node: NodeView, names: Iterable[str]) -> bool:
    """Whether one of `names` is `node`'s, or a label of it."""
    return any(name == node.name or name in node.labels for name in names)


def fit_holders(
    nodes: Iterable[NodeView], wanted: ModelReference, kind: RequestKind
) -> Iterator[tuple[NodeView, ModelRecord]]:
    """Who has the `wanted` model and could serve a request of `kind` if nothing kept it from that."""
    return ((node, record) for node, record in holders(nodes, wanted) if _is_fit(record, kind))


def file_of(nodes: Iterable[NodeView], peer: PeerId, wanted: ModelReference) -> str:
    """The sha256 of the file that `peer` has of the `wanted` model, in hex; empty: not known."""
    return next((record.sha256 for node, record in holders(nodes, wanted) if node.peer == peer), "")


def is_unfit(nodes: Iterable[NodeView], wanted: ModelReference, kind: RequestKind) -> bool:
    """Whether the `wanted` model is there, and of no use for a request of `kind` anywhere."""
    records = [record for _, record in holders(nodes, wanted)]
    return bool(records) and not any(_is_fit(record, kind) for record in records)


def models(nodes: Iterable[NodeView], aliases: Aliases) -> list[ModelInfo]:
    """Every model that some node can be asked for, under each of its names once, sorted by name."""
    records = [record for node in nodes if node.state == "online" for record in node.models]
    # Sorting keeps the order among equals: the first record of each name is one in the best state.
    records.sort(key=lambda record: (record.name, _STATES.index(record.state)))
    served = {name: _model_info(list(same)) for name, same in groupby(records, key=lambda each: each.name)}
    # Whoever asks for an alias gets what it means, whether or not there is a model of the same name.
    found = {name: info for name, info in served.items() if name not in aliases}
    for alias, record in aliases.items():
        meant = ModelReference.parse(record.model).name
        if meant in served:
            found[alias] = replace(served[meant], name=alias)
    return [found[name] for name in sorted(found)]


def _is_fit(record: ModelRecord, kind: RequestKind) -> bool:
    needed = _CAPABILITIES.get(kind)
    return needed is None or needed in record.capabilities


def _model_info(records: list[ModelRecord]) -> ModelInfo:
    best = records[0]
    return ModelInfo(
        name=best.name,
        state=best.state,
        capabilities=tuple(sorted({capability for record in records for capability in record.capabilities})),
        context_size=max(record.context_size for record in records),
        reason=best.reason,
    )
