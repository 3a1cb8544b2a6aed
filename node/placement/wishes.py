"""What people want where, in their words. Pure.

    "tiny", 2 copies      ->  a placement, filled in from what the swarm has now
    placements, the plan  ->  what `/api/swarm` and commands show of them

`ledger/placement.py` plans with the placements, `placer.py` carries the plan out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger.placement import REPLICAS_MAX, Host, Plan, plan
from ledger.records import ModelName, PlacementRecord
from ledger.view import NodeView
from node.errors import NodeError, WrongUse
from node.install.search import of_manifest, of_name, of_weights, whole_copies
from node.placement.hosts import is_whole
from p2p.blobs.manifest import ManifestId
from p2p.peer import PeerId


def placement_of(
    model: ModelName,
    nodes: Sequence[NodeView],
    *,
    replicas: int = 0,
    on: Sequence[str] = (),
    is_everywhere: bool = False,
) -> PlacementRecord:
    """That `model` is wanted, as the file that most nodes have now.

    Args:
      replicas, on, is_everywhere: how many copies, the nodes as people call them, or all: one of the three.

    Raises:
      WrongUse: it is not one of the three, or not one that can be.
      NodeError: nobody who is here has the whole model.
    """
    if (replicas > 0) + bool(on) + is_everywhere != 1:
        raise WrongUse("say one of --replicas N, --on NODE and --everywhere")
    if replicas > REPLICAS_MAX:
        raise WrongUse(f"{replicas} replicas are more than {REPLICAS_MAX}; --everywhere has no such limit")
    named = sorted({peer for text in on for peer in nodes_called(text, nodes)})
    copies = whole_copies(nodes, None, of_name(model))
    if copies is None:
        raise NodeError(
            f"nobody who is here has all of {model}: get it first, with `localai-node models pull`"
            " (one that has just come is read once before others can have it)"
        )
    return PlacementRecord(
        model,
        replicas=replicas,
        nodes=tuple(named),
        sha256=copies.sha256,
        is_everywhere=is_everywhere,
        manifest=copies.manifest,
        size_bytes=copies.size_bytes,
    )


def nodes_called(text: str, nodes: Iterable[NodeView]) -> Sequence[PeerId]:
    """Who is meant by `text`: a peer id, a name, or else a label, which several may have.

    Raises:
      WrongUse: nobody is, or it cannot be told who, or it is one that runs no models.
    """
    nodes = list(nodes)
    named = [node for node in nodes if text in (node.peer, node.name)]
    if len(named) > 1:
        ids = ", ".join(node.peer for node in named)
        raise WrongUse(f"{len(named)} nodes are called {text}; say which by its id: {ids}")
    found = named or [node for node in nodes if text in node.labels]
    if not found:
        raise WrongUse(f"no node is called {text}, and none has that label; `localai-node status` lists them")
    workers = [node.peer for node in found if node.role == "worker"]
    if not workers:
        raise WrongUse(f"{text} runs no models")
    return workers


def placement_rows(
    placements: Iterable[PlacementRecord], made: Plan, nodes: Iterable[NodeView]
) -> list[dict[str, Any]]:
    """`placements` as JSON: what is wanted, who is to hold it (`planned`) and who does (`held`), by peer id.

    `held` has those who are away, too. One that is not in the plan yet will be in a second.
    """
    held = _held(nodes)
    return [
        {
            "model": placement.model,
            "replicas": placement.replicas,
            "nodes": list(placement.nodes),
            "is_everywhere": placement.is_everywhere,
            "size_bytes": placement.size_bytes,
            "planned": list(made.holders.get(placement.model, ())),
            "held": [peer for peer, sha256 in held[placement.model] if placement.sha256 in ("", sha256)],
            "problem": made.problems.get(placement.model, ""),
        }
        for placement in placements
    ]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What becomes of the copies of a model that is not wanted any more."""

    deleted: tuple[PeerId, ...]
    """Whose copies the swarm put there."""
    kept: tuple[PeerId, ...]
    """Whose copies their owners put there."""


def withdrawal(model: ModelName, nodes: Iterable[NodeView]) -> Withdrawal:
    """What unplacing `model` would do."""
    whole = [
        (node.peer, record.is_placed)
        for node in nodes
        for record in node.models
        if record.name == model and is_whole(record)
    ]
    return Withdrawal(
        deleted=tuple(peer for peer, is_placed in whole if is_placed),
        kept=tuple(peer for peer, is_placed in whole if not is_placed),
    )


def as_held_now(placement: PlacementRecord, nodes: Sequence[NodeView]) -> PlacementRecord:
    """`placement` by a manifest that somebody who is here has whole, with the file that is wanted: settings
    beside it, and so its manifest, may have changed since it was placed."""
    ways = [of_manifest(ManifestId(placement.manifest))] if placement.manifest else []
    ways.append(of_weights(placement.sha256) if placement.sha256 else of_name(placement.model))
    found = (whole_copies(nodes, None, matches) for matches in ways)
    copies = next((copies for copies in found if copies is not None), None)
    return placement if copies is None else replace(placement, manifest=copies.manifest)


def comes_back(
    model: ModelName,
    me: PeerId,
    placements: Collection[PlacementRecord],
    hosts: Iterable[Host],
) -> bool:
    """Whether `model` would be put on `me` again, once that has deleted it."""
    without = [
        replace(host, held=_without(model, host.held), owned=host.owned - {model})
        if host.peer == me
        else host
        for host in hosts
    ]
    return me in plan(placements, without).holders.get(model, ())


def _without(model: ModelName, held: Mapping[ModelName, str]) -> Mapping[ModelName, str]:
    return {name: sha256 for name, sha256 in held.items() if name != model}


def _held(nodes: Iterable[NodeView]) -> Mapping[ModelName, Sequence[tuple[PeerId, str]]]:
    """Who has which file, by the name of the model."""
    held: defaultdict[ModelName, list[tuple[PeerId, str]]] = defaultdict(list)
    for node in nodes:
        for record in filter(is_whole, node.models):
            held[record.name].append((node.peer, record.sha256))
    return held
