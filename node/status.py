"""What a node shows of its swarm: the answer of `/api/swarm`, and the same as a table.

Pure: a view in, plain data or text out. Plain data because it goes out as JSON and
over the control socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from federation.lease import Leases
from ledger.records import Load, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId


def swarm_status(swarm: str, me: PeerId, nodes: Iterable[NodeView], leases: Leases) -> dict[str, Any]:
    """The content of `/api/swarm`. `leases`: what this node's front holds."""
    return {"swarm": swarm, "self": me, "nodes": [_node_status(node, leases) for node in nodes]}


def _node_status(node: NodeView, leases: Leases) -> dict[str, Any]:
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
        "models": [_model_status(model) for model in node.models],
        "hardware": dict(node.hardware),
        "warnings": list(node.warnings),
    }


def _load(node: NodeView, model: ModelRecord, leases: Leases) -> Load:
    """What was reported, but never less busy than what we ourselves have running there."""
    reported = node.loads.get(model.name, Load(slots_total=model.slots, slots_busy=0))
    busy = max(reported.slots_busy, leases.count(node.peer, model.name))
    return Load(reported.slots_total, busy, reported.queued)


def _model_status(model: ModelRecord) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": model.name,
        "state": model.state,
        "capabilities": list(model.capabilities),
    }
    if model.reason:
        status["reason"] = model.reason
    return status


def render_status(status: Mapping[str, Any]) -> str:
    """`status` as `localai-node status` prints it: one line per node, ours first."""
    nodes = sorted(status["nodes"], key=lambda node: (node["id"] != status["self"], node["name"]))
    rows = [("NODE", "STATE", "ROLE", "SLOTS", "RTT", "SEEN", "MODELS")]
    rows += [_row(node, is_self=node["id"] == status["self"]) for node in nodes]
    lines = [f"swarm {status['swarm']}: {_count(nodes)}", "", *_columns(rows)]
    lines += [f"warning: {warning}" for node in nodes for warning in node["warnings"]]
    return "\n".join(lines)


def _count(nodes: Sequence[Mapping[str, Any]]) -> str:
    alive = sum(node["state"] == "online" for node in nodes)
    return f"{alive} of {len(nodes)} nodes online" if len(nodes) > 1 else "1 node"


def _row(node: Mapping[str, Any], *, is_self: bool) -> tuple[str, ...]:
    seen = node["last_seen_s"]
    return (
        f"{node['name']} (this node)" if is_self else node["name"],
        node["state"],
        node["role"],
        f"{node['slots_busy']}/{node['slots_total']}",
        "-" if node["rtt_ms"] is None else f"{node['rtt_ms']:.1f} ms",
        "-" if seen is None or is_self else f"{seen:.1f} s ago",
        ", ".join(_model_text(model) for model in node["models"]) or "-",
    )


def _model_text(model: Mapping[str, Any]) -> str:
    reason = f": {model['reason']}" if model.get("reason") else ""
    return model["name"] if model["state"] == "loaded" else f"{model['name']} ({model['state']}{reason})"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
