"""The answer of `/api/swarm` as a table for a terminal. Pure: plain data in, text out.

Apart from `status.py`, which makes that data, because whoever prints it needs
nothing of a node: `localai-node status` must not wait for the ledger to be imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def render_status(status: Mapping[str, Any]) -> str:
    """`status` as `localai-node status` prints it: one line per node, ours first."""
    nodes = sorted(status["nodes"], key=lambda node: (node["id"] != status["self"], node["name"]))
    rows: list[Sequence[str]] = [("NODE", "STATE", "ROLE", "SLOTS", "RTT", "SEEN", "MODELS")]
    names = node_names(nodes)
    rows += [_row(node, names[node["id"]], is_self=node["id"] == status["self"]) for node in nodes]
    lines = [f"swarm {status['swarm']}: {_count(nodes)}", "", *_columns(rows)]
    lines += [_line_text(line) for line in status.get("waiting", ())]
    lines += [f"warning: {printable(warning)}" for node in nodes for warning in node["warnings"]]
    lines += [f"warning: {printable(problem)}" for problem in placement_problems(status)]
    return "\n".join(lines)


def placement_problems(status: Mapping[str, Any]) -> list[str]:
    """What cannot be done of what is wanted where, with the names of nodes for their ids."""
    names = node_names(status["nodes"])
    wanted = [placement for placement in status.get("placements", ()) if placement["problem"]]
    return [
        f"{each['model']} is wanted {wanted_text(each, names)}, but {_named(each['problem'], names)}"
        for each in wanted
    ]


def wanted_text(placement: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Where a model of `/api/swarm` is wanted: `in 2 copies`, `on attic, cellar`, `everywhere`."""
    if placement["is_everywhere"]:
        return "everywhere"
    if placement["nodes"]:
        return f"on {', '.join(names.get(peer, peer) for peer in placement['nodes'])}"
    count = placement["replicas"]
    return f"in {count} copies" if count != 1 else "in 1 copy"


def node_names(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What to call each node of `/api/swarm`, by its id: machines of one name are told apart by its end."""
    count = Counter(node["name"] for node in nodes)
    return {
        node["id"]: node["name"] if count[node["name"]] == 1 else f"{node['name']} ...{node['id'][-6:]}"
        for node in nodes
    }


def printable(text: str) -> str:
    """`text` without what a terminal would obey: names and reasons come from other machines."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _named(text: str, names: Mapping[str, str]) -> str:
    return " ".join(names.get(word, word) for word in text.split(" "))


def _count(nodes: Sequence[Mapping[str, Any]]) -> str:
    alive = sum(node["state"] == "online" for node in nodes)
    return f"{alive} of {len(nodes)} nodes online" if len(nodes) > 1 else "1 node"


def _row(node: Mapping[str, Any], name: str, *, is_self: bool) -> tuple[str, ...]:
    seen = node["last_seen_s"]
    return (
        f"{name} (this node)" if is_self else name,
        node["state"],
        node["role"],
        f"{node['slots_busy']}/{node['slots_total']}",
        "-" if node["rtt_ms"] is None else f"{node['rtt_ms']:.1f} ms",
        "-" if seen is None or is_self else f"{seen:.1f} s ago",
        ", ".join(model_text(model) for model in node["models"]) or "-",
    )


def model_text(model: Mapping[str, Any]) -> str:
    """A model of `/api/swarm` in a line: its name, what runs it, and what keeps it from answering."""
    name = f"{model['name']} in {model['program']}" if model.get("program") else model["name"]
    return name if model["state"] == "loaded" else f"{name} ({model_state(model)})"


def model_state(model: Mapping[str, Any]) -> str:
    """The state of a model of `/api/swarm`: how far it is, where that is known, and what is wrong."""
    fraction = model.get("loaded_fraction", model.get("fetched_fraction"))
    progress = "" if fraction is None else f" {fraction:.0%}"
    reason = f": {model['reason']}" if model.get("reason") else ""
    return f"{model['state']}{progress}{reason}"


def _line_text(line: Mapping[str, Any]) -> str:
    estimate = "" if line["estimate_s"] is None else f", about {line['estimate_s']:.0f} s for one more"
    first = f"the first for {line['oldest_s']:.0f} s"
    return f"waiting for {printable(line['model'])}: {line['waiting']}, {first}{estimate}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
