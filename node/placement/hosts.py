"""The swarm's view, as what a placement can be planned with. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from ledger.placement import Host, speed_class
from ledger.records import ModelRecord
from ledger.view import NodeView
from node.hardware import declared_memory
from node.models.memory_estimate import largest_model
from p2p.peer import PeerId


def missed(nodes: Iterable[NodeView]) -> frozenset[PeerId]:
    """Who has a place in the swarm and is not here."""
    return frozenset(node.peer for node in nodes if node.state == "offline")


def hosts(nodes: Iterable[NodeView], gone: Collection[PeerId]) -> list[Host]:
    """Everybody who can hold models, without those who are `gone`."""
    return [_host(node) for node in nodes if node.role == "worker" and node.peer not in gone]


def is_whole(record: ModelRecord) -> bool:
    """Whether its node has all of the model's file, and knows what it is."""
    return record.state != "fetching" and bool(record.sha256)


def _host(node: NodeView) -> Host:
    whole = [record for record in node.models if is_whole(record)]
    return Host(
        peer=node.peer,
        models_size_max=node.models_size_max,
        model_size_max=_model_size_max(node),
        speed_class=speed_class(node.hardware),
        held={record.name: record.sha256 for record in whole},
        owned=frozenset(record.name for record in whole if not record.is_placed),
    )


def _model_size_max(node: NodeView) -> float:
    """Bytes of the largest model that it can load, judged as before a download; infinite: nobody knows."""
    memory_bytes = node.hardware.get("memory_bytes")
    if node.hardware.get("gpu"):
        # What a GPU takes of a model only its machine knows; but no file that is larger than the memory.
        return memory_bytes if isinstance(memory_bytes, int) else math.inf
    budget_bytes = declared_memory(node.hardware)
    return largest_model(budget_bytes) if budget_bytes else math.inf
