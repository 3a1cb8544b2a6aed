"""What nodes say of themselves in the ledger, as types.

    key             record
    node            NodeRecord     one per node
    model/<name>    ModelRecord    one per model it serves

A record travels as a msgpack map. Fields this version does not know are kept in
`extra` and written back unchanged, so an old node never strips a newer one's words.
`record_fields.py` reads the maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, TypeAlias, get_args

from ledger.record_fields import RecordFields

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
    prefill_speed: float = 0.0
    """Tokens of prompts per second; 0 until one was measured."""
    decode_speed: float = 0.0
    """Tokens per second that one answer gets, at the concurrency of late; 0 until one was measured."""
    is_loaded: bool = False
    """Its engine is ready: no load time comes on top."""


Record: TypeAlias = NodeRecord | ModelRecord

NODE_KEY = "node"
_MODEL_PREFIX = "model/"


def model_key(name: ModelName) -> str:
    """Where the record of model `name` stands."""
    return f"{_MODEL_PREFIX}{name}"


def key_of(record: Record) -> str:
    """Where `record` stands."""
    return NODE_KEY if isinstance(record, NodeRecord) else model_key(record.name)


def encode_record(record: Record) -> dict[str, Any]:
    """`record` as a map. A model's name is in its key alone, so the two cannot disagree."""
    if isinstance(record, NodeRecord):
        return {
            **record.extra,
            "name": record.name,
            "role": record.role,
            "version": record.version,
            "boot_id": record.boot_id,
            "presence": record.presence,
            "addresses": list(record.addresses),
            "hardware": dict(record.hardware),
        }
    return {
        **record.extra,
        "state": record.state,
        "capabilities": list(record.capabilities),
        "context_size": record.context_size,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256,
        "slots": record.slots,
        "reason": record.reason,
    }


def decode_record(key: str, value: Mapping[str, Any]) -> Record | None:
    """The record that stands under `key`, or None if no type of ours belongs there.

    Raises:
      BadRecord: a field is missing, of another type, or a word this version does not know.
    """
    if key == NODE_KEY:
        return _decode_node_record(RecordFields(value))
    if key.startswith(_MODEL_PREFIX):
        return _decode_model_record(ModelName(key.removeprefix(_MODEL_PREFIX)), RecordFields(value))
    return None


def _decode_node_record(fields: RecordFields) -> NodeRecord:
    return NodeRecord(
        name=fields.text("name"),
        role=fields.word("role", _NODE_ROLES),
        version=fields.text("version"),
        boot_id=fields.text("boot_id"),
        presence=fields.word("presence", _PRESENCES, default="here"),
        addresses=fields.texts("addresses"),
        hardware=fields.mapping("hardware"),
        extra=fields.unread(),
    )


def _decode_model_record(name: ModelName, fields: RecordFields) -> ModelRecord:
    capabilities = fields.texts("capabilities")
    return ModelRecord(
        name=name,
        state=fields.word("state", _MODEL_STATES),
        # One that only newer versions know is nothing this one could ask for.
        capabilities=tuple(known for known in _CAPABILITIES if known in capabilities),
        context_size=fields.count("context_size"),
        size_bytes=fields.count("size_bytes"),
        sha256=fields.text("sha256", default=""),
        slots=fields.count("slots", default=1),
        reason=fields.text("reason", default=""),
        extra=fields.unread(),
    )


_NODE_ROLES: tuple[NodeRole, ...] = get_args(NodeRole)
_PRESENCES: tuple[Presence, ...] = get_args(Presence)
_MODEL_STATES: tuple[ModelState, ...] = get_args(ModelState)
_CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
