"""What nodes say in the ledger, as types.

    key                 record             written by
    node                NodeRecord         each node: what it is
    model/<name>        ModelRecord        each node: one per model it has
    leave               LeaveRecord        a node that gave its place up: all it still says
    alias/<name>        AliasRecord        admins, for the whole swarm
    placement/<name>    PlacementRecord    admins, for the whole swarm

A record travels as a msgpack map. Fields this version does not know are kept in
`extra` and written back unchanged, so an old node never strips a newer one's words.
`record_fields.py` reads the maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, TypeAlias, get_args

from ledger.record_fields import RecordFields
from p2p.peer import PeerId

ModelName = NewType("ModelName", str)

ModelState: TypeAlias = Literal["loaded", "cold", "loading", "fetching", "failed"]
Capability: TypeAlias = Literal["chat", "completion", "embeddings", "rerank"]
Presence: TypeAlias = Literal["here", "draining", "away"]
"""`away`: offline, its place is kept."""
NodeRole: TypeAlias = Literal["worker", "front"]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node, as it describes itself."""

    name: str
    role: NodeRole
    version: str
    """Of the program."""
    presence: Presence = "here"
    addresses: tuple[str, ...] = ()
    """Multiaddrs it can be dialled at, without `/p2p/`."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """For people and coarse placement: cpu, cores, memory_bytes, gpu."""
    labels: tuple[str, ...] = ()
    """What else requests may call it by."""
    weight: float = 1.0
    """How much its owner wants it to be used: 2 is as if it was twice as fast."""
    models_size_max: int = 0
    """Bytes of models that the swarm may place here. 0: its owner did not allow it to."""
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
    """Hex, of the model's file, or of the sha256s of its parts where it is split; empty until the background
    hashing is done."""
    slots: int = 1
    reason: str = ""
    """Why it failed, for a person."""
    program: str = ""
    """What runs it, where that is no engine of the node's own: a server that is attached to it."""
    manifest: str = ""
    """Id of the manifest of its files; empty until they are hashed."""
    source: str = ""
    """While it is fetched: the key of the file that is, which others that want the same know it by."""
    is_origin: bool = False
    """While it is fetched: from outside of the swarm. Others follow this node instead of doing the same."""
    is_placed: bool = False
    """The swarm put it there, and may take it away. What people put there themselves it may not."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaveRecord:
    """A node gave its place in the swarm up."""

    name: str
    """For people who ask where it went."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """Another name for a model, everywhere in the swarm."""

    alias: ModelName
    model: ModelName
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlacementRecord:
    """Where a model is wanted."""

    model: ModelName
    replicas: int = 0
    """Copies anywhere; 0 where `nodes` names them, or it is wanted everywhere."""
    nodes: tuple[PeerId, ...] = ()
    sha256: str = ""
    """Hex, of the file that is wanted; empty: whichever there is."""
    is_everywhere: bool = False
    """On every node that takes models in and has room."""
    manifest: str = ""
    """Id of the manifest of all its files."""
    size_bytes: int = 0
    """Of them together."""
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


OwnRecord: TypeAlias = NodeRecord | ModelRecord | LeaveRecord
SwarmRecord: TypeAlias = AliasRecord | PlacementRecord
Record: TypeAlias = OwnRecord | SwarmRecord

LABELS_MAX = 16
"""Of one node. A person gives two or three, and each is looked at for every candidate."""
WEIGHT_MIN, WEIGHT_MAX = 0.01, 100.0
"""Beyond that a node is used always or never, and there are better ways to say so."""

NODE_KEY = "node"
LEAVE_KEY = "leave"
_MODEL_PREFIX = "model/"
_ALIAS_PREFIX = "alias/"
_PLACEMENT_PREFIX = "placement/"


def model_key(name: ModelName) -> str:
    """Where the record of model `name` stands."""
    return f"{_MODEL_PREFIX}{name}"


def placement_key(model: ModelName) -> str:
    """Where it stands on which nodes `model` is wanted."""
    return f"{_PLACEMENT_PREFIX}{model}"


def key_of(record: Record) -> str:
    """Where `record` stands."""
    match record:
        case NodeRecord():
            return NODE_KEY
        case LeaveRecord():
            return LEAVE_KEY
        case ModelRecord(name):
            return model_key(name)
        case AliasRecord(alias):
            return f"{_ALIAS_PREFIX}{alias}"
        case PlacementRecord(model):
            return placement_key(model)


def encode_record(record: Record) -> dict[str, Any]:
    """`record` as a map. A name that is in the key is there alone, so the two cannot disagree."""
    said: dict[str, Any]
    match record:
        case NodeRecord():
            said = {
                "name": record.name,
                "role": record.role,
                "version": record.version,
                "presence": record.presence,
                "addresses": list(record.addresses),
                "hardware": dict(record.hardware),
            }
        case ModelRecord():
            said = {
                "state": record.state,
                "capabilities": list(record.capabilities),
                "context_size": record.context_size,
                "size_bytes": record.size_bytes,
                "sha256": record.sha256,
                "slots": record.slots,
                "reason": record.reason,
            }
        case LeaveRecord(name):
            said = {"name": name}
        case AliasRecord(_, model):
            said = {"model": model}
        case PlacementRecord():
            said = {"replicas": record.replicas, "nodes": list(record.nodes), "sha256": record.sha256}
    return {**record.extra, **said, **_said_where_it_matters(record)}


def _said_where_it_matters(record: Record) -> dict[str, Any]:
    """Fields that are as they are by default with most, and that older versions do not know."""
    defaults = {each.name: each.default for each in dataclasses.fields(record)}
    names = _SAID_WHERE_IT_MATTERS.get(type(record), ())
    said = {name: getattr(record, name) for name in names if getattr(record, name) != defaults[name]}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def decode_record(key: str, value: Mapping[str, Any]) -> Record | None:
    """The record that stands under `key`, or None if no type of ours belongs there.

    Raises:
      BadRecord: a field is missing, of another type, or a word this version does not know.
    """
    prefix, slash, name = key.partition("/")
    decode = _DECODERS.get(prefix + slash)
    return decode(ModelName(name), RecordFields(value)) if decode is not None else None


def _decode_node_record(_: ModelName, fields: RecordFields) -> NodeRecord:
    return NodeRecord(
        name=fields.text("name"),
        role=fields.word("role", _NODE_ROLES),
        version=fields.text("version"),
        presence=fields.word("presence", _PRESENCES, default="here"),
        addresses=fields.texts("addresses"),
        hardware=fields.mapping("hardware"),
        labels=fields.texts("labels")[:LABELS_MAX],
        weight=min(max(fields.number("weight", default=1.0), WEIGHT_MIN), WEIGHT_MAX),
        models_size_max=fields.count("models_size_max"),
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
        program=fields.text("program", default=""),
        manifest=fields.text("manifest", default=""),
        source=fields.text("source", default=""),
        is_origin=fields.flag("is_origin"),
        is_placed=fields.flag("is_placed"),
        extra=fields.unread(),
    )


def _decode_leave_record(_: ModelName, fields: RecordFields) -> LeaveRecord:
    return LeaveRecord(name=fields.text("name", default=""), extra=fields.unread())


def _decode_alias_record(alias: ModelName, fields: RecordFields) -> AliasRecord:
    return AliasRecord(alias, model=ModelName(fields.text("model")), extra=fields.unread())


def _decode_placement_record(model: ModelName, fields: RecordFields) -> PlacementRecord:
    return PlacementRecord(
        model,
        replicas=fields.count("replicas"),
        nodes=tuple(PeerId(text) for text in fields.texts("nodes")),
        sha256=fields.text("sha256", default=""),
        is_everywhere=fields.flag("is_everywhere"),
        manifest=fields.text("manifest", default=""),
        size_bytes=fields.count("size_bytes"),
        extra=fields.unread(),
    )


_DECODERS: Mapping[str, Callable[[ModelName, RecordFields], Record]] = {
    NODE_KEY: _decode_node_record,
    LEAVE_KEY: _decode_leave_record,
    _MODEL_PREFIX: _decode_model_record,
    _ALIAS_PREFIX: _decode_alias_record,
    _PLACEMENT_PREFIX: _decode_placement_record,
}
"""By the key, or its part up to the slash."""

_SAID_WHERE_IT_MATTERS: Mapping[type, tuple[str, ...]] = {
    NodeRecord: ("labels", "weight", "models_size_max"),
    ModelRecord: ("program", "manifest", "source", "is_origin", "is_placed"),
    PlacementRecord: ("is_everywhere", "manifest", "size_bytes"),
}

_NODE_ROLES: tuple[NodeRole, ...] = get_args(NodeRole)
_PRESENCES: tuple[Presence, ...] = get_args(Presence)
_MODEL_STATES: tuple[ModelState, ...] = get_args(ModelState)
_CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
