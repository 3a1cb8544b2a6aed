"""The simulator counts the bytes that the encoders would write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger import probe
from ledger.probe import Ack, Claims, Gossip, Nack, Ping, PingRequest, RelayedAck, Summary, to_frame
from ledger.rumour import Claim, Rumour, Status
from ledger.sync_messages import Buckets, Entries, Message, News, Owners, Root, encode_message
from p2p import hello
from p2p.peer import PeerId
from tests.sim.frame_sizes import LOADS, address_of, addresses_size, exact_size, ledger_size, probe_size

NUMBERS = st.integers(0, 2**62 - 1)
PEERS = st.sampled_from([PeerId("12D3KooW" + letter * 44) for letter in "abcdefgh"])
STATUSES = st.sampled_from([Status.ALIVE, Status.SUSPECT, Status.OFFLINE])
CLAIMS = st.builds(Claim, NUMBERS, STATUSES)
RUMOURS = st.lists(st.builds(Rumour, PEERS, CLAIMS), max_size=18).map(tuple)
PROBES = st.one_of(
    st.builds(Ping, NUMBERS, NUMBERS, st.none() | CLAIMS, RUMOURS),
    st.builds(Ack, NUMBERS, NUMBERS, RUMOURS),
    st.builds(PingRequest, NUMBERS, PEERS, st.none() | CLAIMS, RUMOURS),
    st.builds(RelayedAck, NUMBERS, PEERS, NUMBERS, RUMOURS),
    st.builds(Nack, NUMBERS, RUMOURS, has_asked=st.booleans()),
    st.builds(Gossip, RUMOURS),
    st.builds(Summary, st.just(bytes(256)), st.booleans(), RUMOURS),
    st.builds(Claims, RUMOURS, RUMOURS),
)
DATAS = st.lists(st.integers(0, 70_000).map(bytes), max_size=20).map(tuple)
LEDGER = st.one_of(
    st.just(Root(bytes(16))),
    st.just(Buckets((bytes(16),) * 32)),
    st.just(Owners((1, 2), {})),
    st.builds(Entries, DATAS),
    st.builds(News, DATAS),
)


@given(PROBES)
def test_a_probe_is_as_long_as_its_frame(message: probe.Message) -> None:
    assert probe_size(message) == exact_size(to_frame(message, LOADS))


@given(LEDGER)
def test_a_ledger_message_is_as_long_as_its_frame(message: Message) -> None:
    assert ledger_size(message) == exact_size(encode_message(message))


def test_addresses_are_as_long_as_their_frames() -> None:
    members = [(PeerId("1" * 50 + f"{number:02}"), (address_of(number),)) for number in range(40)]
    frames = [exact_size(hello.to_wire(frame)) for frame in hello.in_frames(members)]
    assert len(frames) == 2
    assert addresses_size(40) == sum(frames)
