"""Two sides of the ledger protocol, joined without a network."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entry import Author, Entry, Place, decode_entry_untrusted, digest_of, sign_entry
from ledger.floor import floor_key, floor_value
from ledger.state import BUCKETS, LedgerLimits, LedgerState, bucket_of
from ledger.sync import WANTED_MAX, SyncSession
from ledger.sync_messages import (
    FRAME_SIZE_MAX,
    Entries,
    Held,
    Holdings,
    Message,
    News,
    Owners,
    Root,
    Wanted,
    decode_message_untrusted,
    encode_message,
)
from ledger.version import VERSION_PART_MAX, Version
from p2p.errors import BadFrame
from p2p.peer import PeerId, peer_id_of
from tests.ledger.people import author, state_of

OWNERS = [author(number) for number in range(1, 7)]
ME = author(99).peer


def write(owner: Author, key: str, counter: int, value: bytes | None = b"\x80") -> Entry:
    return sign_entry(owner, key, Version(1, counter), value)


def replica(*entries: Entry) -> LedgerState:
    state = state_of(ME)
    for entry in entries:
        state.apply(entry)
    return state


class Pair:
    """Two sessions, and the frames that went between them."""

    def __init__(self, left: LedgerState, right: LedgerState) -> None:
        self.states = (left, right)
        self.sessions = (SyncSession(left), SyncSession(right))
        self.said: list[Message] = []
        self.bytes = 0

    def run_round(self, beginner: int = 0) -> None:
        self.sessions[beginner].begin_round()
        self.settle()

    def settle(self) -> None:
        """Deliver until both owe nothing."""
        while any([self._deliver(0), self._deliver(1)]):
            pass

    def _deliver(self, source: int) -> bool:
        message = self.sessions[source].next_message()
        if message is None:
            return False
        frame = msgpack.packb(encode_message(message))
        assert len(frame) <= FRAME_SIZE_MAX
        self.bytes += len(frame) + 4
        self.said.append(message)
        received = decode_message_untrusted(msgpack.unpackb(frame))
        assert received == message
        taken = self.sessions[1 - source].handle(received)
        for encoded in taken.encoded if taken is not None else ():
            self.states[1 - source].apply(decode_entry_untrusted(encoded))
        return True

    @property
    def is_equal(self) -> bool:
        return list(self.states[0].entries()) == list(self.states[1].entries())


entries = st.builds(
    write,
    st.sampled_from(OWNERS),
    st.sampled_from(["a", "b", "c"]),
    st.integers(1, 3),
    st.sampled_from([None, b"\x80", b"\x81\xa1x\x01"]),
)


@given(st.lists(entries, max_size=12), st.lists(entries, max_size=12), st.integers(0, 1))
@settings(deadline=None)
def test_one_round_makes_any_two_equal(left: list[Entry], right: list[Entry], beginner: int) -> None:
    pair = Pair(replica(*left), replica(*right))
    pair.run_round(beginner)
    assert pair.is_equal


def test_equals_cost_one_small_frame() -> None:
    everything = [write(owner, "node", 1) for owner in OWNERS]
    pair = Pair(replica(*everything), replica(*everything))
    pair.run_round()
    assert [type(message) for message in pair.said] == [Root]
    assert pair.bytes <= 50


@pytest.mark.parametrize("beginner", [0, 1])
def test_a_newcomer_gets_each_entry_once(beginner: int) -> None:
    everything = [write(owner, f"model/{n}", n + 1) for owner in OWNERS for n in range(20)]
    pair = Pair(replica(), replica(*everything))
    pair.run_round(beginner)
    assert pair.is_equal
    assert sum(len(message.encoded) for message in pair.said if isinstance(message, Entries)) == 120


def test_one_difference_does_not_send_the_rest() -> None:
    common = [write(owner, f"model/{n}", n + 1) for owner in OWNERS for n in range(20)]
    pair = Pair(replica(*common), replica(*common, write(OWNERS[0], "model/3", 50)))
    pair.run_round()
    assert pair.is_equal
    assert [len(message.encoded) for message in pair.said if isinstance(message, Entries)] == [1]


def test_a_push_needs_no_round() -> None:
    entry = write(OWNERS[0], "node", 1)
    pair = Pair(replica(entry), replica())
    pair.sessions[0].push(entry.place)
    pair.settle()
    assert pair.is_equal
    assert len(pair.said) == 1


def test_news_overtakes_a_round() -> None:
    everything = [write(owner, "node", 1) for owner in OWNERS]
    session = SyncSession(replica(*everything))
    session.handle(Owners(tuple(range(BUCKETS)), {}))
    session.push(everything[0].place)
    assert session.next_message() == News((everything[0].encoded,))
    assert isinstance(session.next_message(), Entries)


def test_a_peer_that_does_not_read_gets_the_newest_of_a_thousand_pushes() -> None:
    state = state_of(ME)
    session = SyncSession(state)
    for counter in range(1, 1001):
        state.apply(write(OWNERS[0], "node", counter))
        session.push(Place(OWNERS[0].peer, "node"))
    newest = state.get(OWNERS[0].peer, "node")
    assert newest is not None
    assert session.next_message() == News((newest.encoded,))
    assert session.next_message() is None


def test_asking_without_end_costs_one_answer() -> None:
    session = SyncSession(replica(*(write(owner, "node", 1) for owner in OWNERS)))
    for number in range(1000):
        session.handle(Root(digest_of(bytes([number % 256]))))
        session.handle(Owners(tuple(range(BUCKETS)), {}))
        session.handle(Wanted({owner.peer: ("node", "nothing there") for owner in OWNERS}))
    answers = []
    while (message := session.next_message()) is not None:
        answers.append(message)
    assert len(answers) == 2, "one of buckets, one of entries"


def test_a_liar_cannot_make_us_keep_what_it_claims() -> None:
    limits = LedgerLimits(owners_max=50)
    session = SyncSession(state_of(ME, limits))
    owners = [peer_id_of(bytes([number % 256, number // 256]) + bytes(30)) for number in range(200)]
    rank = Version(1, 1), bytes(16)
    for owner in owners:
        session.handle(Owners((bucket_of(owner),), {owner: bytes(16)}))
        session.handle(Holdings({owner: tuple(Held(f"{key}", *rank) for key in range(100))}))
        session.handle(Holdings({owner: (Held("k" * 161, *rank),)}))
    asked = list(iter(session.next_message, None))
    wanted = [keys for message in asked if isinstance(message, Wanted) for keys in message.keys.values()]
    assert sum(len(keys) for keys in wanted) == WANTED_MAX
    assert sum(len(message.of) for message in asked if isinstance(message, Holdings)) == 50


def test_an_owner_outside_the_buckets_named_is_a_broken_protocol() -> None:
    owner = OWNERS[0].peer
    with pytest.raises(BadFrame):
        SyncSession(replica()).handle(Owners(((bucket_of(owner) + 1) % BUCKETS,), {owner: bytes(16)}))


def test_what_cannot_be_split_fits_a_frame_at_its_limit() -> None:
    limits = LedgerLimits()
    version = Version(VERSION_PART_MAX, VERSION_PART_MAX)
    held = tuple(
        Held(f"{number:0{limits.key_size_max}}", version, bytes(16))
        for number in range(limits.owner_entries_max)
    )
    owners: dict[PeerId, bytes] = {
        peer_id_of(number.to_bytes(32, "big")): bytes(16) for number in range(limits.owners_max)
    }
    largest = sign_entry(OWNERS[0], "k" * limits.key_size_max, version, bytes(limits.value_size_max))
    for message in (
        Holdings({OWNERS[0].peer: held}),
        Owners(tuple(range(BUCKETS)), owners),
        Entries((largest.encoded,)),
    ):
        assert len(msgpack.packb(encode_message(message))) <= FRAME_SIZE_MAX


class Stubborn(Pair):
    """A pair whose right side takes nothing in, as an older or a full one would."""

    def run_rounds(self, count: int) -> int:
        """How many entries were sent in vain."""
        right = list(self.states[1].entries())
        before = len(self.said)
        for _ in range(count):
            self.sessions[0].begin_round()
            while any([self._deliver(0), self._deliver(1)]):
                for entry in list(self.states[1].entries()):
                    assert entry in right
        sent = [message for message in self.said[before:] if isinstance(message, Entries)]
        return sum(len(message.encoded) for message in sent)


@pytest.mark.parametrize(
    ("held", "limits"), [(0, LedgerLimits(size_max=0)), (1, LedgerLimits(owner_entries_max=1))]
)
def test_what_a_peer_refuses_is_offered_ever_more_rarely(held: int, limits: LedgerLimits) -> None:
    full = state_of(ME, limits)
    for entry in [write(OWNERS[0], "a", 1)][:held]:
        full.apply(entry)
    pair = Stubborn(replica(*(write(OWNERS[0], key, 1) for key in "abcd")), full)
    vain = pair.run_rounds(1000)
    assert 4 <= vain <= 4 * 10, "at the 1st, 2nd, 4th, 8th ... of a thousand meetings"


def test_a_change_on_either_side_is_worth_a_try_at_once() -> None:
    pair = Stubborn(replica(write(OWNERS[0], "a", 1)), state_of(ME, LedgerLimits(size_max=0)))
    pair.run_rounds(100)
    pair.states[0].apply(write(OWNERS[0], "a", 2))
    assert pair.run_rounds(1) == 1


def test_an_answer_that_must_wait_stays_owed_and_news_does_not_wait_for_it() -> None:
    session = SyncSession(replica(write(OWNERS[0], "node", 1), write(OWNERS[0], "a", 2)))
    session.handle(Wanted({OWNERS[0].peer: ("node",)}))
    assert session.next_message(may_answer=False) is None
    session.push(Place(OWNERS[0].peer, "a"))
    assert isinstance(session.next_message(may_answer=False), News)
    assert session.owes_answers
    assert isinstance(session.next_message(), Entries)
    assert not session.owes_answers


def test_what_fell_below_a_floor_is_not_asked_for_again() -> None:
    before = [write(OWNERS[0], key, number) for number, key in enumerate("abcd", 1)]
    floor = sign_entry(OWNERS[0], floor_key(2), Version(2, 2), floor_value(1))
    after = [sign_entry(OWNERS[0], "a", Version(2, 1), b"\x80"), floor]
    pair = Pair(replica(*before, *after), replica(*before))
    pair.run_round(beginner=1)
    assert pair.is_equal
    assert not any(isinstance(message, Wanted) and "b" in str(message.keys) for message in pair.said)
