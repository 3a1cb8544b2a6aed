"""`/localai-node/load/1`: what a front that uses a peer is told of its load, and the slots it is offered.

    front                                   peer
      | <------------------------ LOADS --- |   at once, then what changed, four times a second at most
      | -- WAITING -----------------------> |   for so many slots of a model; 0: for none any more
      | <------------------------ OFFER --- |   one of them is held for it, `slot_gate.HELD_FOR` long
      | -- a request on an infer stream --> |

The front opens it when it uses the peer and ends it a minute after it last did, so a peer tells
those who want to know and nobody else. One stream per front: another one replaces it.

Nothing is owed: a front that hears nothing still has the loads that ride on probes and answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from federation.slot_gate import WANTED_MAX
from ledger.probe import FRAME_SIZE_MAX as PROBE_FRAME_SIZE_MAX
from ledger.probe import Loads, loads_map, loads_untrusted, model_name_untrusted
from ledger.records import ModelName
from p2p.allowance import Allowance
from p2p.errors import BadFrame
from p2p.fields import Fields

PROTOCOL_ID = "/localai-node/load/1"

FRAME_SIZE_MAX = PROBE_FRAME_SIZE_MAX
"""The loads of a probe, and nothing larger."""

PUSH_INTERVAL = 0.25
"""Seconds between two LOADS: design. A front counts its own leases meanwhile, so it is others' requests that
it hears of so late."""

MESSAGES_BURST, MESSAGES_RATE = 128, 64
"""Messages that are read at once, and a second after that: each makes the other side look at who waits. Four
LOADS a second, and offers for as many answers as a small model gives, are less. Who sends more waits until it
is read, and what it sends meanwhile becomes fewer messages."""

_KIND_MAX = 255
"""More kinds than there will ever be."""


class _Kind(IntEnum):
    """What a frame is. The numbers are on the wire: append only."""

    LOADS = 1
    WAITING = 2
    OFFER = 3


@dataclass(frozen=True, slots=True)
class LoadsTold:
    """From the peer: how busy these models are now; of the others nothing has changed."""

    loads: Loads


@dataclass(frozen=True, slots=True)
class Offered:
    """From the peer: a slot of `model` is held for you."""

    model: ModelName


@dataclass(frozen=True, slots=True)
class WaitingTold:
    """From the front: so many requests wait for `model`."""

    model: ModelName
    wanted: int


def messages_allowed() -> Allowance:
    """What one side reads of the other."""
    return Allowance(MESSAGES_BURST, MESSAGES_RATE)


PeerMessage: TypeAlias = LoadsTold | Offered


def encode(message: PeerMessage | WaitingTold) -> dict[str, Any]:
    """`message` as a map for one frame. Of loads the busiest, as many as fit."""
    match message:
        case LoadsTold(loads):
            return {"kind": _Kind.LOADS.value, "loads": loads_map(loads)}
        case Offered(model):
            return {"kind": _Kind.OFFER.value, "model": model}
        case WaitingTold(model, wanted):
            return {"kind": _Kind.WAITING.value, "model": model, "wanted": min(wanted, WANTED_MAX)}


def decode_from_peer_untrusted(values: Mapping[str, Any]) -> PeerMessage:
    """What a peer sent.

    Raises:
      BadFrame: it is none of the messages a peer may send.
    """
    fields = Fields(values)
    match fields.whole("kind", 0, _KIND_MAX):
        case _Kind.LOADS:
            return LoadsTold(loads_untrusted(fields.fields("loads")))
        case _Kind.OFFER:
            return Offered(model_name_untrusted(fields, "model"))
        case kind:
            raise BadFrame(f"kind {kind} from a peer")


def decode_from_front_untrusted(values: Mapping[str, Any]) -> WaitingTold:
    """What a front sent.

    Raises:
      BadFrame: it is not the one message a front may send.
    """
    fields = Fields(values)
    if (kind := fields.whole("kind", 0, _KIND_MAX)) != _Kind.WAITING:
        raise BadFrame(f"kind {kind} from a front")
    return WaitingTold(model_name_untrusted(fields, "model"), fields.whole("wanted", 0, WANTED_MAX))
