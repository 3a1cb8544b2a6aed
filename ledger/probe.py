"""`/localai-node/probe/1`: is a peer alive, and how busy is it.

    prober                              target
      | -- PING ------------------------> |
      | <------------------------ ACK --- |

      or, if nothing comes back, through others:

    prober                 helper                 target
      | -- PING_REQUEST ----> | -- PING ----------> |
      | <---- RELAYED_ACK --- | <---------- ACK --- |
      | <----------- NACK --- |     (the helper is well and heard nothing either, or has no link to it)

    at any time, news that cannot wait:  -- GOSSIP -->
    now and then, what was missed:       -- SUMMARY -->  and  <-- CLAIMS --   (`claims_exchange.py`)

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

from ledger.claims_digest import DIGEST_SIZE
from ledger.records import Load, ModelName
from ledger.rumour import INCARNATION_MAX, Claim, Rumour, Status
from p2p.errors import BadFrame
from p2p.fields import Fields
from p2p.peer import PEER_ID_TEXT_MAX, PeerId

PROTOCOL_ID = "/localai-node/probe/1"

RUMOURS_MAX = 16
"""Per frame. A probe goes out every 0.4 s and an answer with it, so even the news of a hundred
peers lost at once is out in a few seconds, in frames that still fit one packet."""

CLAIMS_MAX = 200
"""Per frame, of at most 80 bytes each: what fits."""

MODELS_MAX = 64
"""Loads per frame. No home machine runs more at a time; the busiest go first."""

MODEL_NAME_BYTES_MAX = 128
"""A longer name rides on no probe (its slots are still in its record)."""

FRAME_SIZE_MAX = 16 * 1024
"""16 rumours of at most 80 bytes and 64 loads of at most 170, or 200 claims, with room for fields to come."""

_SEQUENCE_MAX = 2**62
"""Sequences count probes; none gets here in a lifetime."""

_COUNT_MAX = 2**20
"""Slots and queue lengths; a larger one is a lie or a defect."""

_KIND_MAX = 255
"""More kinds than there will ever be."""

SPEED_MAX = 10_000_000
"""Tokens per second; a larger one is a lie or a defect."""

_CLAIM = ("incarnation", "status")
_LOAD = ("slots_total", "slots_busy", "queued")
_SPEEDS = ("prefill_speed", "decode_speed")
_LOAD_LATER = (*_SPEEDS, "is_loaded")
"""Columns of a load that came later, append only: an older node neither says nor reads them."""


class Kind(IntEnum):
    """What a frame is. The numbers are on the wire: append only."""

    PING = 1
    ACK = 2
    PING_REQUEST = 3
    RELAYED_ACK = 4
    NACK = 5
    GOSSIP = 6
    SUMMARY = 7
    CLAIMS = 8


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
    has_asked: bool = True
    """If not, it has no link to the target, or too much to do: that says nothing about the target."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """News: each receiver that did not know it passes it on."""

    rumours: tuple[Rumour, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the sender holds of everybody, in a digest. Who holds something else says so."""

    digest: bytes
    is_answer: bool = False
    """It follows the claims that a summary was answered with: answer it with claims alone."""
    rumours: tuple[Rumour, ...] = ()


@dataclass(frozen=True, slots=True)
class Claims:
    """What the sender holds of these peers. No news: it may be old, and is passed on sparingly."""

    claims: tuple[Rumour, ...]
    rumours: tuple[Rumour, ...] = ()


Message: TypeAlias = Ping | Ack | PingRequest | RelayedAck | Nack | Gossip | Summary | Claims
Loads: TypeAlias = Mapping[ModelName, Load]


def to_frame(message: Message, loads: Loads) -> dict[str, Any]:
    """The map that travels: `message`, with our load on pings and acks."""
    frame: dict[str, Any]
    match message:
        case Ping(sequence, incarnation, about_you):
            frame = {"kind": Kind.PING.value, "sequence": sequence, "incarnation": incarnation}
            frame |= _claim_field("about_you", about_you) | _loads_field(loads)
        case Ack(sequence, incarnation):
            frame = {"kind": Kind.ACK.value, "sequence": sequence, "incarnation": incarnation}
            frame |= _loads_field(loads)
        case PingRequest(sequence, target, held_against):
            frame = {"kind": Kind.PING_REQUEST.value, "sequence": sequence, "target": target}
            frame |= _claim_field("held_against", held_against)
        case RelayedAck(sequence, target, incarnation):
            frame = {"kind": Kind.RELAYED_ACK.value, "sequence": sequence}
            frame |= {"target": target, "incarnation": incarnation}
        case Nack(sequence):
            frame = {"kind": Kind.NACK.value, "sequence": sequence}
            frame |= {} if message.has_asked else {"has_asked": False}
        case Gossip():
            frame = {"kind": Kind.GOSSIP.value}
        case Summary(digest, is_answer):
            frame = {"kind": Kind.SUMMARY.value, "digest": digest, "is_answer": is_answer}
        case Claims(claims):
            frame = {"kind": Kind.CLAIMS.value, "claims": _rows(claims)}
    return frame | ({"rumours": _rows(message.rumours)} if message.rumours else {})


def from_frame_untrusted(frame: Mapping[str, Any]) -> tuple[Message, dict[ModelName, Load] | None]:
    """The message in `frame`, and the sender's load if it said it.

    Raises:
      BadFrame: and nothing else, whatever the map holds.
    """
    fields = Fields(frame)
    rumours = _rumours(fields, "rumours", RUMOURS_MAX) if "rumours" in fields else ()
    message: Message
    match fields.whole("kind", 0, _KIND_MAX):
        case Kind.PING:
            about_you = _complaint(fields, "about_you")
            message = Ping(_sequence(fields), _incarnation(fields), about_you, rumours)
        case Kind.ACK:
            message = Ack(_sequence(fields), _incarnation(fields), rumours)
        case Kind.PING_REQUEST:
            held_against = _complaint(fields, "held_against")
            message = PingRequest(_sequence(fields), _peer(fields, "target"), held_against, rumours)
        case Kind.RELAYED_ACK:
            message = RelayedAck(_sequence(fields), _peer(fields, "target"), _incarnation(fields), rumours)
        case Kind.NACK:
            message = Nack(_sequence(fields), rumours, "has_asked" not in fields or fields.flag("has_asked"))
        case Kind.GOSSIP:
            message = Gossip(rumours)
        case Kind.SUMMARY:
            message = Summary(fields.data("digest", DIGEST_SIZE), fields.flag("is_answer"), rumours)
        case Kind.CLAIMS:
            message = Claims(_rumours(fields, "claims", CLAIMS_MAX), rumours)
        case kind:
            raise BadFrame(f"a probe frame of kind {kind}")
    return message, loads_untrusted(fields.fields("loads")) if "loads" in fields else None


def _claim_field(key: str, claim: Claim | None) -> dict[str, Any]:
    return {} if claim is None else {key: [claim.incarnation, claim.status.value]}


def _rows(rumours: tuple[Rumour, ...]) -> list[list[Any]]:
    return [[each.peer, each.claim.incarnation, each.claim.status.value] for each in rumours]


def loads_map(loads: Loads) -> dict[str, Any]:
    """`loads` as a map, of the busiest as many as fit. `load_feed.py` says them in the same way."""
    sayable = [item for item in loads.items() if _is_sayable(item[0])]
    busiest = heapq.nlargest(
        MODELS_MAX, sayable, key=lambda item: (item[1].slots_busy, item[1].queued, item[0])
    )
    return {name: _load_row(load) for name, load in busiest}


def _loads_field(loads: Loads) -> dict[str, Any]:
    return {"loads": loads_map(loads)}


def _load_row(load: Load) -> list[int | float | bool]:
    speeds = (_rounded(speed) for speed in (load.prefill_speed, load.decode_speed))
    return [load.slots_total, load.slots_busy, load.queued, *speeds, load.is_loaded]


def _rounded(speed: float) -> int | float:
    """Three digits: nobody chooses by the fourth, and a whole number takes a third of a float's bytes."""
    rounded = float(f"{min(speed, SPEED_MAX):.3g}")
    return int(rounded) if rounded.is_integer() else rounded


def _sequence(fields: Fields) -> int:
    return fields.whole("sequence", 0, _SEQUENCE_MAX)


def _incarnation(fields: Fields) -> int:
    return fields.whole("incarnation", 0, INCARNATION_MAX)


def _peer(fields: Fields, name: str) -> PeerId:
    # Not decoded: what is said of a peer that we do not know is dropped anyway.
    peer = fields.text(name, PEER_ID_TEXT_MAX)
    if not peer:
        raise BadFrame(f"{name} is empty")
    return PeerId(peer)


def _claim(fields: Fields) -> Claim:
    # From 1: nobody says that it knows nothing.
    return Claim(_incarnation(fields), Status(fields.whole("status", Status.ALIVE, Status.OFFLINE)))


def _complaint(fields: Fields, name: str) -> Claim | None:
    return _claim(fields.row(name, _CLAIM)) if name in fields else None


def _rumours(fields: Fields, name: str, count_max: int) -> tuple[Rumour, ...]:
    rows = fields.rows(name, count_max, ("peer", *_CLAIM))
    return tuple(Rumour(_peer(row, "peer"), _claim(row)) for row in rows)


def loads_untrusted(loads: Fields) -> dict[ModelName, Load]:
    """What `loads_map` made.

    Raises:
      BadFrame: it is something else.
    """
    rows = {name: loads.row(name, _LOAD, _LOAD_LATER) for name in loads.names(MODELS_MAX)}
    return {_model_name(name): _load(row) for name, row in rows.items()}


def model_name_untrusted(fields: Fields, name: str) -> ModelName:
    """A model's name as loads have it.

    Raises:
      BadFrame: there is none, or a longer one than any that is told of.
    """
    return _model_name(fields.text(name, MODEL_NAME_BYTES_MAX))


def _model_name(name: str) -> ModelName:
    if not _is_sayable(name):
        raise BadFrame(f"a model's name is not of 1 to {MODEL_NAME_BYTES_MAX} bytes")
    return ModelName(name)


def _load(fields: Fields) -> Load:
    slots_total, slots_busy, queued = (fields.whole(column, 0, _COUNT_MAX) for column in _LOAD)
    prefill, decode = (fields.number(name, 0, SPEED_MAX) if name in fields else 0.0 for name in _SPEEDS)
    is_loaded = "is_loaded" in fields and fields.flag("is_loaded")
    return Load(slots_total, slots_busy, queued, prefill, decode, is_loaded)


def _is_sayable(name: str) -> bool:
    return 0 < len(name.encode(errors="replace")) <= MODEL_NAME_BYTES_MAX
