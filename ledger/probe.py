"""`/localai-node/probe/1`: is a peer alive, and how busy is it.

    prober                              target
      | -- PING ------------------------> |
      | <------------------------ ACK --- |

      or, if nothing comes back, through others:

    prober                 helper                 target
      | -- PING_REQUEST ----> | -- PING ----------> |
      | <---- RELAYED_ACK --- | <---------- ACK --- |
      | <----------- NACK --- |     (the helper is well and heard nothing either)

    and, at any time, news that cannot wait:  -- GOSSIP -->

One stream per connection, used by both sides. Nothing is repeated and nothing is
owed: a frame that was dropped looks like a slow peer, which is what probes are for.
Rumours ride on every frame, the sender's load on pings and acks.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from ledger.records import Load, ModelName
from ledger.rumour import INCARNATION_MAX, Claim, Rumour, Status
from p2p.errors import BadFrame
from p2p.peer import PeerId

PROTOCOL_ID = "/localai-node/probe/1"

RUMOURS_MAX = 16
"""Per frame. A probe goes out every 0.4 s and an answer with it, so even the news of a hundred
peers lost at once is out in a few seconds, in frames that still fit one packet."""

MODELS_MAX = 64
"""Loads per frame. No home machine runs more at a time; the busiest go first."""

MODEL_NAME_BYTES_MAX = 128
"""A longer name rides on no probe (its slots are still in its record)."""

FRAME_SIZE_MAX = 16 * 1024
"""16 rumours of at most 80 bytes and 64 loads of at most 150, with room for fields to come."""

_SEQUENCE_MAX = 2**62
"""Sequences count probes; none gets here in a lifetime."""

_COUNT_MAX = 2**20
"""Slots and queue lengths; a larger one is a lie or a defect."""

_PEER_ID_LENGTH_MAX = 64
"""Text of an Ed25519 peer id is 52 characters."""


class Kind(IntEnum):
    """What a frame is. The numbers are on the wire: append only."""

    PING = 1
    ACK = 2
    PING_REQUEST = 3
    RELAYED_ACK = 4
    NACK = 5
    GOSSIP = 6


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer me."""

    sequence: int
    incarnation: int
    """The sender's own."""
    about_you: Claim | None = None
    """What is held against the receiver, so that it can take it back in its answer."""
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to the ping of that sequence."""

    sequence: int
    incarnation: int
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Ping `target` for me: it does not answer me, or I have no connection to it."""

    sequence: int
    target: PeerId
    held_against: Claim | None = None
    """The complaint to pass to the target."""
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class RelayedAck:
    """`target` answered the helper."""

    sequence: int
    target: PeerId
    incarnation: int
    """The target's."""
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class Nack:
    """The helper is well, and the target did not answer it (yet)."""

    sequence: int
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class Gossip:
    """News: each receiver that did not know it passes it on."""

    rumours: tuple[Rumour, ...]


Message: TypeAlias = Ping | Ack | PingRequest | RelayedAck | Nack | Gossip
Loads: TypeAlias = Mapping[ModelName, Load]


def to_frame(message: Message, loads: Loads) -> dict[str, Any]:
    """The map that travels: `message`, with our load on pings and acks."""
    frame: dict[str, Any]
    match message:
        case Ping(sequence, incarnation, about_you):
            frame = {"kind": Kind.PING, "sequence": sequence, "incarnation": incarnation}
            frame |= _claim_field("about_you", about_you) | _loads_field(loads)
        case Ack(sequence, incarnation):
            frame = {"kind": Kind.ACK, "sequence": sequence, "incarnation": incarnation}
            frame |= _loads_field(loads)
        case PingRequest(sequence, target, held_against):
            frame = {"kind": Kind.PING_REQUEST, "sequence": sequence, "target": target}
            frame |= _claim_field("held_against", held_against)
        case RelayedAck(sequence, target, incarnation):
            frame = {"kind": Kind.RELAYED_ACK, "sequence": sequence}
            frame |= {"target": target, "incarnation": incarnation}
        case Nack(sequence):
            frame = {"kind": Kind.NACK, "sequence": sequence}
        case Gossip():
            frame = {"kind": Kind.GOSSIP}
    return frame | _rumours_field(message.rumours)


def from_frame_untrusted(frame: Mapping[str, Any]) -> tuple[Message, dict[ModelName, Load] | None]:
    """The message in `frame`, and the sender's load if it said it.

    Raises:
      BadFrame: and nothing else, whatever the map holds.
    """
    reader = _Reader(frame)
    rumours = reader.rumours()
    message: Message
    match reader.kind():
        case Kind.PING:
            about_you = reader.claim("about_you")
            message = Ping(reader.sequence(), reader.incarnation(), about_you, rumours)
        case Kind.ACK:
            message = Ack(reader.sequence(), reader.incarnation(), rumours)
        case Kind.PING_REQUEST:
            held_against = reader.claim("held_against")
            message = PingRequest(reader.sequence(), reader.target(), held_against, rumours)
        case Kind.RELAYED_ACK:
            message = RelayedAck(reader.sequence(), reader.target(), reader.incarnation(), rumours)
        case Kind.NACK:
            message = Nack(reader.sequence(), rumours)
        case Kind.GOSSIP:
            message = Gossip(rumours)
    return message, reader.loads()


def _claim_field(key: str, claim: Claim | None) -> dict[str, Any]:
    return {} if claim is None else {key: [claim.incarnation, claim.status]}


def _rumours_field(rumours: tuple[Rumour, ...]) -> dict[str, Any]:
    if not rumours:
        return {}
    return {"rumours": [[rumour.peer, rumour.claim.incarnation, rumour.claim.status] for rumour in rumours]}


def _loads_field(loads: Loads) -> dict[str, Any]:
    sayable = [
        item for item in loads.items() if len(item[0].encode(errors="replace")) <= MODEL_NAME_BYTES_MAX
    ]
    busiest = heapq.nlargest(
        MODELS_MAX, sayable, key=lambda item: (item[1].slots_busy, item[1].queued, item[0])
    )
    return {"loads": {name: [load.slots_total, load.slots_busy, load.queued] for name, load in busiest}}


class _Reader:
    """Takes fields out of a map that somebody else wrote."""

    def __init__(self, frame: Mapping[str, Any]) -> None:
        self._frame = frame

    def kind(self) -> Kind:
        try:
            return Kind(_integer(self._frame.get("kind"), "kind", 255))
        except ValueError as error:
            raise BadFrame("a probe frame of an unknown kind") from error

    def sequence(self) -> int:
        return _integer(self._frame.get("sequence"), "sequence", _SEQUENCE_MAX)

    def incarnation(self) -> int:
        return _integer(self._frame.get("incarnation"), "incarnation", INCARNATION_MAX)

    def target(self) -> PeerId:
        return _peer_id(self._frame.get("target"))

    def claim(self, key: str) -> Claim | None:
        fields = self._frame.get(key)
        return None if fields is None else _claim(_list(fields, key, 2))

    def rumours(self) -> tuple[Rumour, ...]:
        rumours = self._frame.get("rumours", [])
        if not isinstance(rumours, list) or len(rumours) > RUMOURS_MAX:
            raise BadFrame(f"rumours are not a list of at most {RUMOURS_MAX}")
        return tuple(_rumour(_list(fields, "rumour", 3)) for fields in rumours)

    def loads(self) -> dict[ModelName, Load] | None:
        loads = self._frame.get("loads")
        if loads is None:
            return None
        if not isinstance(loads, dict) or len(loads) > MODELS_MAX:
            raise BadFrame(f"loads are not a map of at most {MODELS_MAX}")
        return {_model_name(name): _load(_list(fields, "load", 3)) for name, fields in loads.items()}


def _integer(value: object, name: str, largest: int) -> int:
    # A bool is an int to Python, and nothing we count.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise BadFrame(f"{name} is not an integer from 0 to {largest}")
    return value


def _list(value: object, name: str, length: int) -> list[Any]:
    """The first `length` items of a list; a newer version may append more."""
    if not isinstance(value, list) or len(value) < length:
        raise BadFrame(f"{name} is not a list of {length} or more")
    return value[:length]


def _peer_id(value: object) -> PeerId:
    # Not decoded: what is said of a peer that we do not know is dropped anyway.
    if not isinstance(value, str) or not 0 < len(value) <= _PEER_ID_LENGTH_MAX:
        raise BadFrame("a peer id that is none")
    return PeerId(value)


def _model_name(value: object) -> ModelName:
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= MODEL_NAME_BYTES_MAX:
        raise BadFrame(f"a model name that is not text of at most {MODEL_NAME_BYTES_MAX} bytes")
    return ModelName(value)


def _claim(fields: list[Any]) -> Claim:
    incarnation = _integer(fields[0], "incarnation", INCARNATION_MAX)
    status = _integer(fields[1], "status", Status.OFFLINE)
    if status == Status.UNKNOWN:
        raise BadFrame("a claim that says nothing")
    return Claim(incarnation, Status(status))


def _rumour(fields: list[Any]) -> Rumour:
    return Rumour(_peer_id(fields[0]), _claim(fields[1:]))


def _load(fields: list[Any]) -> Load:
    slots_total, slots_busy, queued = (_integer(field, "load", _COUNT_MAX) for field in fields)
    return Load(slots_total, slots_busy, queued)
