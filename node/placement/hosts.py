"""The swarm's view, as what a placement can be planned with. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ledger.placement import Host, speed_class
from ledger.records import ModelRecord
from ledger.view import NodeView
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
    memory = node.hardware.get("memory_bytes")
    return Host(
        peer=node.peer,
        models_size_max=node.models_size_max,
        memory_bytes=memory if isinstance(memory, int) else 0,
        speed_class=speed_class(node.hardware),
        held={record.name: record.sha256 for record in whole},
        owned=frozenset(record.name for record in whole if not record.is_placed),
    )
