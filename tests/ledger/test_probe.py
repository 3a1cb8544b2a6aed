"""A probe message is whole or refused, and never larger than its frame."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.claims_digest import DIGEST_SIZE
from ledger.probe import (
    CLAIMS_MAX,
    FRAME_SIZE_MAX,
    MODEL_NAME_BYTES_MAX,
    MODELS_MAX,
    RUMOURS_MAX,
    Ack,
    Claims,
    Gossip,
    Kind,
    Message,
    Nack,
    Ping,
    PingRequest,
    RelayedAck,
    Summary,
    from_frame_untrusted,
    to_frame,
)
from ledger.records import Load, ModelName
from ledger.rumour import INCARNATION_MAX, Claim, Rumour, Status
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame
from p2p.peer import PeerId

numbers = st.integers(0, INCARNATION_MAX)
peers = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=64).map(PeerId)
claims = st.builds(Claim, numbers, st.sampled_from([Status.ALIVE, Status.SUSPECT, Status.OFFLINE]))
rumours = st.lists(st.builds(Rumour, peers, claims), max_size=RUMOURS_MAX).map(tuple)
complaints = st.none() | claims
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, numbers, numbers, complaints, rumours),
    st.builds(Ack, numbers, numbers, rumours),
    st.builds(PingRequest, numbers, peers, complaints, rumours),
    st.builds(RelayedAck, numbers, peers, numbers, rumours),
    st.builds(Nack, numbers, rumours, st.booleans()),
    st.builds(Gossip, rumours),
    st.builds(Summary, st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE), st.booleans(), rumours),
    st.builds(Claims, rumours, rumours),
)
names = st.text(min_size=1, max_size=32).map(ModelName)
counts = st.integers(0, 64)
speeds = st.sampled_from([0.0, 0.123, 7.5, 42.0, 1_230.0])
loads = st.dictionaries(
    names, st.builds(Load, counts, counts, st.integers(0, 1000), speeds, speeds, st.booleans()), max_size=4
)

SOME_LOADS = {ModelName("smollm2"): Load(4, 1, 2, 350.0, 21.5, is_loaded=True)}
EXAMPLES: list[Message] = [
    Ping(7, 3, Claim(2, Status.SUSPECT), (Rumour(PeerId("bob"), Claim(0, Status.OFFLINE)),)),
    Ack(7, 3, (Rumour(PeerId("bob"), Claim(1, Status.ALIVE)),)),
    PingRequest(8, PeerId("bob"), Claim(2, Status.OFFLINE)),
    RelayedAck(8, PeerId("bob"), 3),
    Nack(8),
    Gossip((Rumour(PeerId("bob"), Claim(1, Status.SUSPECT)),)),
    Nack(8, has_asked=False),
    Summary(bytes(DIGEST_SIZE)),
    Claims((Rumour(PeerId("bob"), Claim(1, Status.OFFLINE)),)),
]


def over_the_wire(frame: dict[str, Any]) -> dict[str, Any]:
    return FrameDecoder(FRAME_SIZE_MAX).feed_untrusted(encode_frame(frame, FRAME_SIZE_MAX))[0]


@given(messages, loads)
def test_what_is_sent_is_what_arrives(message: Message, loads: dict[ModelName, Load]) -> None:
    received, received_loads = from_frame_untrusted(over_the_wire(to_frame(message, loads)))
    assert received == message
    assert received_loads == (loads if isinstance(message, Ping | Ack) else None)


def test_the_fullest_frame_fits() -> None:
    rumours = tuple(
        Rumour(PeerId(f"{n:064}"), Claim(INCARNATION_MAX, Status.OFFLINE)) for n in range(RUMOURS_MAX)
    )
    load = Load(2**20, 2**20, 2**20, 0.0123, 0.0123, is_loaded=True)
    loads = {ModelName(f"{n:0{MODEL_NAME_BYTES_MAX}}"): load for n in range(MODELS_MAX)}
    ping = Ping(INCARNATION_MAX, INCARNATION_MAX, Claim(INCARNATION_MAX, Status.OFFLINE), rumours)
    assert from_frame_untrusted(over_the_wire(to_frame(ping, loads))) == (ping, loads)


def test_of_too_many_models_the_busiest_are_reported() -> None:
    loads = {ModelName(f"model{n}"): Load(4, int(n >= 50)) for n in range(50 + MODELS_MAX)}
    _, reported = from_frame_untrusted(over_the_wire(to_frame(Ping(1, 0), loads)))
    assert reported == {name: load for name, load in loads.items() if load.slots_busy}


def test_a_model_with_an_endless_name_is_not_reported() -> None:
    loads = SOME_LOADS | {ModelName("x" * (MODEL_NAME_BYTES_MAX + 1)): Load(1, 0)}
    assert from_frame_untrusted(over_the_wire(to_frame(Ping(1, 0), loads)))[1] == SOME_LOADS


def test_a_nack_of_an_older_node_is_one_that_asked() -> None:
    assert from_frame_untrusted({"kind": Kind.NACK.value, "sequence": 1})[0] == Nack(1, has_asked=True)


@pytest.mark.parametrize(
    ("measured", "said"), [(0.0, 0.0), (0.04321, 0.0432), (1234.5, 1230.0), (0.999999, 1.0), (1e12, 1e7)]
)
def test_a_speed_is_said_in_three_digits_and_a_slow_one_is_not_none(measured: float, said: float) -> None:
    loads = {ModelName("smollm2"): Load(4, 0, 0, measured, measured, is_loaded=True)}
    _, reported = from_frame_untrusted(over_the_wire(to_frame(Ping(1, 0), loads)))
    assert reported == {ModelName("smollm2"): Load(4, 0, 0, said, said, is_loaded=True)}


def test_a_load_of_an_older_node_has_no_speeds() -> None:
    frame = to_frame(Ping(1, 0), {}) | {"loads": {"smollm2": [4, 1, 2]}}
    assert from_frame_untrusted(over_the_wire(frame))[1] == {ModelName("smollm2"): Load(4, 1, 2)}


@pytest.mark.parametrize(
    "later", [[-1.0, 1, True], [1, math.nan, True], [1, math.inf, True], [1e8, 1, True], [1, True], [1, 1, 1]]
)
def test_a_speed_that_cannot_be_is_refused(later: list[Any]) -> None:
    with pytest.raises(BadFrame):
        from_frame_untrusted(to_frame(Ping(1, 0), {}) | {"loads": {"smollm2": [4, 1, 2, *later]}})


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_keys_and_items_of_a_later_version_are_ignored(message: Message) -> None:
    frame = to_frame(message, SOME_LOADS) | {"mood": "fine"}
    frame |= {"rumours": [[*rumour, "more"] for rumour in frame.get("rumours", [])]}
    frame |= {"loads": {name: [*load, "more"] for name, load in frame.get("loads", {}).items()}}
    assert from_frame_untrusted(over_the_wire(frame))[0] == message


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"kind": 0, "sequence": 1},
        {"kind": 9, "sequence": 1},
        {"kind": True, "sequence": 1},
        {"kind": Kind.NACK.value},
        {"kind": Kind.NACK.value, "sequence": -1},
        {"kind": Kind.NACK.value, "sequence": True},
        {"kind": Kind.NACK.value, "sequence": 1.0},
        {"kind": Kind.NACK.value, "sequence": 2**63},
        {"kind": Kind.ACK.value, "sequence": 1},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "about_you": []},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "about_you": [0, Status.UNKNOWN.value]},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "about_you": [0, 4]},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "loads": []},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "loads": {1: [1, 1, 1]}},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "loads": {"m": [1, 1]}},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "loads": {"m": [1, 1, -1]}},
        {"kind": Kind.PING.value, "sequence": 1, "incarnation": 0, "loads": {"m" * 129: [1, 1, 1]}},
        {"kind": Kind.PING_REQUEST.value, "sequence": 1},
        {"kind": Kind.PING_REQUEST.value, "sequence": 1, "target": ""},
        {"kind": Kind.PING_REQUEST.value, "sequence": 1, "target": "x" * 65},
        {"kind": Kind.GOSSIP.value, "rumours": {}},
        {"kind": Kind.GOSSIP.value, "rumours": [["bob", 1]]},
        {"kind": Kind.GOSSIP.value, "rumours": [["bob", 0, 1]] * (RUMOURS_MAX + 1)},
        {"kind": Kind.NACK.value, "sequence": 1, "has_asked": 0},
        {"kind": Kind.SUMMARY.value, "digest": bytes(DIGEST_SIZE)},
        {"kind": Kind.SUMMARY.value, "digest": bytes(DIGEST_SIZE + 1), "is_answer": False},
        {"kind": Kind.CLAIMS.value},
        {"kind": Kind.CLAIMS.value, "claims": [["bob", 0, Status.UNKNOWN.value]]},
        {"kind": Kind.CLAIMS.value, "claims": [["bob", 0, 1]] * (CLAIMS_MAX + 1)},
    ],
)
def test_what_the_protocol_does_not_allow_is_refused(frame: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        from_frame_untrusted(frame)
