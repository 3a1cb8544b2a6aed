"""Frame sizes: how many bytes a message takes on its stream, without encoding it each time.

A size follows from the shape of a message: its kind, and how long its numbers are. So
each shape is encoded once, with the real encoders, and what comes in any number
(rumours, entries) is added up. `test_frame_sizes.py` compares it with the encoders.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from ledger import probe
from ledger.probe import Ack, Claims, Gossip, Ping, to_frame
from ledger.records import Load, ModelName
from ledger.rumour import Claim, Rumour, Status
from ledger.sync_messages import Entries, Message, News, Root, encode_message
from p2p import hello
from p2p.framing import encode_frame
from p2p.peer import PeerId

LOADS = {ModelName("smollm2-135m-instruct"): Load(4, 0, 0, 512, 37.5, is_loaded=True)}
"""What each node says of itself on pings and acks: one model, loaded and idle."""

_SIZE_MAX = 2**24
"""No frame is refused here for its size: the tests of the protocols see to that."""


def exact_size(frame: dict[str, Any]) -> int:
    """The bytes of `frame` on a stream."""
    return len(encode_frame(frame, _SIZE_MAX))


def probe_size(message: probe.Message) -> int:
    """The bytes of a probe message from a node with `LOADS`."""
    match message:
        case Ping(sequence, incarnation, None) | Ack(sequence, incarnation):
            is_ping = isinstance(message, Ping)
            size = _pulse_size(is_ping, sequence.bit_length(), incarnation.bit_length())
        case Gossip():
            size = _EMPTY_GOSSIP
        case Claims(claims):
            return _EMPTY_CLAIMS + _rows_size(claims, "") + _rows_size(message.rumours, "rumours")
        case _:
            size = exact_size(to_frame(replace(message, rumours=()), LOADS))
    return size + _rows_size(message.rumours, "rumours") if message.rumours else size


def ledger_size(message: Message) -> int:
    """The bytes of a ledger message."""
    match message:
        case Root():
            return _ROOT
        case Entries(encoded) | News(encoded):
            empty = _EMPTY_ENTRIES if isinstance(message, Entries) else _EMPTY_NEWS
            return empty + _list_head(len(encoded)) - 1 + sum(_data_size(len(each)) for each in encoded)
        case _:
            return exact_size(encode_message(message))


@cache
def addresses_size(count: int) -> int:
    """The bytes of the control frames that tell where `count` members are."""
    members = [(PeerId(f"{number:052}"), (address_of(number),)) for number in range(count)]
    return sum(exact_size(hello.to_wire(frame)) for frame in hello.in_frames(members))


def address_of(number: int) -> str:
    """Where member `number` listens: as long as most addresses at home."""
    return f"/ip4/192.168.{100 + number // 100}.{100 + number % 100}/tcp/4747"


@cache
def _pulse_size(is_ping: bool, sequence_bits: int, incarnation_bits: int) -> int:
    kind = Ping if is_ping else Ack
    message = kind((1 << sequence_bits) - 1, (1 << incarnation_bits) - 1)
    return exact_size(to_frame(message, LOADS))


def _rows_size(rumours: tuple[Rumour, ...], key: str) -> int:
    if not rumours:
        return 0
    named = 1 + len(key) + _list_head(len(rumours)) if key else _list_head(len(rumours)) - 1
    return named + sum(_row_size(len(each.peer), each.claim.incarnation.bit_length()) for each in rumours)


@cache
def _row_size(peer_length: int, incarnation_bits: int) -> int:
    one = Rumour(PeerId("1" * peer_length), Claim((1 << incarnation_bits) - 1, Status.ALIVE))
    return exact_size(to_frame(Gossip((one,)), {})) - _EMPTY_GOSSIP - 1 - len("rumours") - 1


def _list_head(count: int) -> int:
    return 1 if count < 16 else 3 if count < 2**16 else 5


def _data_size(length: int) -> int:
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


_EMPTY_GOSSIP = exact_size(to_frame(Gossip(()), {}))
_EMPTY_CLAIMS = exact_size(to_frame(Claims(()), {}))
_EMPTY_ENTRIES = exact_size(encode_message(Entries(())))
_EMPTY_NEWS = exact_size(encode_message(News(())))
_ROOT = exact_size(encode_message(Root(bytes(16))))
