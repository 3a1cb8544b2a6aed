"""Hello frames are read whole or refused, and never with anything but BadFrame."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import hello
from p2p.errors import BadFrame
from p2p.framing import FrameDecoder, encode_frame
from p2p.hello import Addresses, Bye, Hello, Message, from_wire_untrusted, in_frames, printable, to_wire
from p2p.peer import PeerAddress
from tests.p2p.people import ALICE, BOB, CAROL, identity, invite

HELLO = Hello("kitchen", "0.1.0", "b1", invite().credential_for(ALICE.peer_id), ("/ip4/10.0.0.1/tcp/4747",))
ADDRESSES = Addresses(
    (PeerAddress(BOB.peer_id, "/ip4/10.0.0.2/tcp/4747"), PeerAddress(CAROL.peer_id, "/ip6/::1/tcp/1"))
)
BYE = Bye(hello.REFUSED, "the invite expired")
MESSAGES: list[Message] = [HELLO, ADDRESSES, Addresses(()), BYE]


def on_the_wire(*messages: Message) -> bytes:
    return b"".join(encode_frame(to_wire(message), hello.FRAME_SIZE_MAX) for message in messages)


@given(st.lists(st.integers(1, 200), max_size=30))
def test_messages_survive_any_split(sizes: list[int]) -> None:
    data, decoder, received = on_the_wire(*MESSAGES), FrameDecoder(hello.FRAME_SIZE_MAX), []
    for size in [*sizes, len(data)]:
        received += decoder.feed_untrusted(data[:size])
        data = data[size:]
    assert [from_wire_untrusted(frame) for frame in received] == MESSAGES


def test_messages_survive_byte_by_byte() -> None:
    decoder = FrameDecoder(hello.FRAME_SIZE_MAX)
    frames = [frame for byte in on_the_wire(*MESSAGES) for frame in decoder.feed_untrusted(bytes([byte]))]
    decoder.finish()
    assert [from_wire_untrusted(frame) for frame in frames] == MESSAGES


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_unknown_keys_are_ignored(message: Message) -> None:
    assert from_wire_untrusted({**to_wire(message), "later": [1]}) == message


def test_an_unknown_word_of_goodbye_is_a_goodbye() -> None:
    assert from_wire_untrusted(to_wire(Bye("moved to mars"))) == Bye("moved to mars")


def test_the_largest_messages_fit_a_frame() -> None:
    long = "/dns4/" + "x" * (hello.MULTIADDR_LENGTH_MAX - 6)
    places = (long,) * hello.ADDRESSES_PER_PEER_MAX
    everybody = [(identity(str(number)).peer_id, places) for number in range(2 * hello.ADDRESS_PEERS_MAX)]
    messages = list(in_frames(everybody))
    assert len(messages) == 2
    for message in messages:
        assert from_wire_untrusted(msgpack.unpackb(on_the_wire(message)[4:])) == message


def test_frames_are_cut_by_bytes_whatever_the_addresses_are() -> None:
    places = ("/" + "\U0001f600" * 127,) * hello.ADDRESSES_PER_PEER_MAX
    everybody = [(identity(str(number)).peer_id, places) for number in range(hello.ADDRESS_PEERS_MAX)]
    messages = list(in_frames(everybody))
    assert sum(len(message.addresses) for message in messages) == len(everybody) * len(places)
    assert len(messages) == 3
    on_the_wire(*messages)


def test_members_without_addresses_take_no_room() -> None:
    assert list(in_frames([(ALICE.peer_id, ()), (BOB.peer_id, ())])) == []


def near_misses() -> list[dict[str, Any]]:
    good = to_wire(HELLO)
    peer = str(BOB.peer_id)
    lists: list[Any] = [
        7,
        [[peer]],
        [["not a peer", []]],
        [["1" * 3000, []]],
        [[peer, ["no slash"]]],
        [[peer, ["/ip4/1.2.3.4/tcp/1/p2p/" + peer]]],
        [[peer, [b"/ip4"]]],
        [[peer, ["/dns4/caf\u00e9"]]],
        [[peer, ["/" + "x" * hello.MULTIADDR_LENGTH_MAX]]],
        [[peer, ["/x"] * (hello.ADDRESSES_PER_PEER_MAX + 1)]],
        [[peer, []]] * (hello.ADDRESS_PEERS_MAX + 1),
    ]
    return [
        {},
        {"kind": 0},
        {"kind": 4},
        {"kind": "1"},
        {"kind": None},
        *({key: value for key, value in good.items() if key != left_out} for left_out in good),
        *({**good, key: None} for key in good),
        {**good, "name": "x" * (hello.NAME_LENGTH_MAX + 1)},
        {**good, "name": "red \x1b[31m"},
        {**good, "name": "two\nlines"},
        {**good, "credential": {}},
        {**good, "addresses": "/ip4/1.2.3.4/tcp/1"},
        *({"kind": 2, "peers": value} for value in lists),
        {"kind": 2},
        {"kind": 3},
        {"kind": 3, "reason": "away"},
        {"kind": 3, "reason": "away", "text": "x" * (hello.BYE_TEXT_LENGTH_MAX + 1)},
        {"kind": 3, "reason": b"away", "text": ""},
    ]


@pytest.mark.parametrize("frame", near_misses(), ids=repr)
def test_near_misses_are_bad_frames(frame: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        from_wire_untrusted(frame)


@given(st.text())
def test_what_we_say_of_ourselves_is_accepted_by_others(name: str) -> None:
    said = Hello(printable(name, hello.NAME_LENGTH_MAX), "0", "b", HELLO.credential)
    assert from_wire_untrusted(to_wire(said)) == said
