"""What a node shows of its swarm: the answer of `/api/swarm`.

Pure: a view in, plain data out. Plain because it goes out as JSON and over the
control socket; `status_table.py` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from federation.lease import Leases
from federation.waiting_room import Waiting
from ledger.records import Load, ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId


def swarm_status(
    swarm: str,
    me: PeerId,
    nodes: Iterable[NodeView],
    leases: Leases,
    *,
    loaded_fractions: Mapping[ModelName, float] = MappingProxyType({}),
    fetched_fractions: Mapping[ModelName, float] = MappingProxyType({}),
    placements: Sequence[Mapping[str, Any]] = (),
    waiting: Mapping[ModelName, Waiting] = MappingProxyType({}),
    warning: str = "",
) -> dict[str, Any]:
    """The content of `/api/swarm`.

    Args:
      leases: what this node's front holds.
      loaded_fractions: how far each model is that is being loaded here, 0 to 1.
      fetched_fractions: the same of each that is on its way here.
      placements: what is wanted where, as `placement/wishes.py` shows it.
      waiting: the requests that wait at this node's front.
      warning: what is not well on this node, beside what the ledger shows; empty if all is.
    """
    fractions = {"loading": loaded_fractions, "fetching": fetched_fractions}
    rows = [_node_status(node, leases, fractions if node.peer == me else {}) for node in nodes]
    for row in rows:
        if warning and row["id"] == me:
            row["warnings"].append(warning)
    lines = [_line(model, line) for model, line in waiting.items()]
    return {"swarm": swarm, "self": me, "nodes": rows, "placements": list(placements), "waiting": lines}


def _line(model: ModelName, line: Waiting) -> dict[str, Any]:
    return {
        "model": model,
        "waiting": line.waiting,
        "oldest_s": round(line.oldest, 2),
        "estimate_s": None if line.estimate is None else round(line.estimate, 2),
    }


_Fractions: TypeAlias = Mapping[str, Mapping[ModelName, float]]
"""By the state of a model: how far each is in it that is known."""
_FRACTION_NAMES = {"loading": "loaded_fraction", "fetching": "fetched_fraction"}


def _node_status(node: NodeView, leases: Leases, fractions: _Fractions) -> dict[str, Any]:
    offline = node.state == "offline"
    loads = {} if offline else {model.name: _load(node, model, leases) for model in node.models}
    return {
        "id": node.peer,
        "name": node.name,
        "state": node.state,
        "role": node.role,
        "version": node.version,
        "rtt_ms": None if node.rtt is None else round(node.rtt * 1000, 2),
        "last_seen_s": None if node.last_seen is None else round(node.last_seen, 2),
        "slots_total": sum(load.slots_total for load in loads.values()),
        "slots_busy": sum(load.slots_busy for load in loads.values()),
        "queued": sum(load.queued for load in loads.values()),
        "models": [_model_status(model, fractions) for model in node.models],
        "hardware": dict(node.hardware),
        "labels": list(node.labels),
        "weight": node.weight,
        "models_size_max": node.models_size_max,
        "warnings": list(node.warnings),
    }


def _load(node: NodeView, model: ModelRecord, leases: Leases) -> Load:
    """What was reported, but never less busy than what we ourselves have running there."""
    reported = node.loads.get(model.name, Load(slots_total=model.slots, slots_busy=0))
    busy = max(reported.slots_busy, leases.count(node.peer, model.name))
    return Load(reported.slots_total, busy, reported.queued)


def _model_status(model: ModelRecord, fractions: _Fractions) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": model.name,
        "state": model.state,
        "capabilities": list(model.capabilities),
    }
    if model.reason:
        status["reason"] = model.reason
    if model.program:
        status["program"] = model.program
    if model.sha256:
        status["sha256"] = model.sha256
    if model.is_placed:
        status["is_placed"] = True
    fraction = fractions.get(model.state, {}).get(model.name)
    if fraction is not None:
        status[_FRACTION_NAMES[model.state]] = round(fraction, 3)
    return status
