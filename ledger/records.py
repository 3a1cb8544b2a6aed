"""What nodes say of themselves in the ledger, as types.

    key             record
    node            NodeRecord     one per node
    model/<name>    ModelRecord    one per model it serves

A record travels as a msgpack map. Fields this version does not know are kept in
`extra` and written back unchanged, so an old node never strips a newer one's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, TypeAlias

ModelName = NewType("ModelName", str)

ModelState: TypeAlias = Literal["loaded", "cold", "loading", "fetching", "failed"]
Capability: TypeAlias = Literal["chat", "completion", "embeddings", "rerank"]
Presence: TypeAlias = Literal["here", "draining", "away", "left"]
"""`away`: offline, its place is kept. `left`: it gave its place up."""
NodeRole: TypeAlias = Literal["worker", "front"]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node, as it describes itself."""

    name: str
    role: NodeRole
    version: str
    """Of the program."""
    boot_id: str
    """New at each start: two alive at once under one key are a copied home."""
    presence: Presence = "here"
    addresses: tuple[str, ...] = ()
    """Multiaddrs it can be dialled at, without `/p2p/`."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """For people and coarse placement: cpu, cores, memory_bytes, gpu."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model on one node."""

    name: ModelName
    state: ModelState
    capabilities: tuple[Capability, ...] = ()
    context_size: int = 0
    """Tokens; 0 until the model was loaded once."""
    size_bytes: int = 0
    sha256: str = ""
    """Hex, of the model's file; empty until the background hashing is done."""
    slots: int = 1
    reason: str = ""
    """Why it failed, for a person."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """How busy one node is with one model, as it says itself. Never in the ledger: it rides on probes."""

    slots_total: int
    slots_busy: int
    queued: int = 0
