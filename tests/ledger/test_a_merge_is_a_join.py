"""Replicas that have seen the same entries are equal, however those came."""

from __future__ import annotations

from functools import cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entry import Entry, sign_entry, sign_shared_entry
from ledger.floor import floor_key, floor_value
from ledger.rumour import Claim, Status
from ledger.state import Applied, LedgerState, Refused
from ledger.version import Version
from tests.ledger.people import author, state_of

OWNERS = [author(1), author(2)]
ADMINS = [author(3, "admin"), author(4, "admin")]
ME = author(9).peer


@cache
def entry(owner: int, key: str, epoch: int, counter: int, value: bytes | None) -> Entry:
    return sign_entry(OWNERS[owner], key, Version(epoch, counter), value)


@cache
def floor(owner: int, epoch: int) -> Entry:
    """The one floor that an owner puts under an epoch, over as many keys as it has before it."""
    return sign_entry(OWNERS[owner], floor_key(epoch), Version(epoch, 9), floor_value(epoch - 1))


@cache
def shared(writer: int, key: str, lamport: int, value: bytes | None) -> Entry:
    return sign_shared_entry(ADMINS[writer], key, lamport, value)


# Small ranges, so that entries often meet: even two different ones of one version.
values = st.sampled_from([None, b"\x80", b"\x81\xa1x\x01"])
entries = st.one_of(
    st.builds(entry, st.integers(0, 1), st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 2), values),
    st.builds(floor, st.integers(0, 1), st.integers(1, 3)),
    st.builds(shared, st.integers(0, 1), st.sampled_from("ab"), st.integers(1, 3), values),
)
unhurried = settings(deadline=None)
"""A machine that is busy with other tests breaks no law."""
histories = st.lists(entries, max_size=10)


def replica(*histories_seen: list[Entry]) -> LedgerState:
    state = state_of(ME)
    for history in histories_seen:
        for each in history:
            state.apply(each)
    return state


@unhurried
@given(histories, histories)
def test_merging_is_commutative(left: list[Entry], right: list[Entry]) -> None:
    assert list(replica(left, right).entries()) == list(replica(right, left).entries())


@unhurried
@given(histories, histories, histories)
def test_merging_is_associative(a: list[Entry], b: list[Entry], c: list[Entry]) -> None:
    ab = list(replica(a, b).entries())
    bc = list(replica(b, c).entries())
    assert list(replica(ab, c).entries()) == list(replica(a, bc).entries())


@unhurried
@given(histories)
def test_merging_twice_changes_nothing(history: list[Entry]) -> None:
    once = replica(history)
    assert all(once.apply(each) in (Refused("stale"), Refused("below_floor")) for each in history)
    assert list(once.entries()) == list(replica(history).entries())


@unhurried
@given(histories)
def test_digests_are_equal_exactly_where_the_entries_are(history: list[Entry]) -> None:
    other = replica(history[: len(history) // 2], list(reversed(history)))
    one = replica(history)
    assert one.root_digest() == other.root_digest()
    assert one.size == other.size == sum(len(each.encoded) for each in one.entries())
    for dropped in range(len(history)):
        partial = replica(history[:dropped] + history[dropped + 1 :])
        is_same = list(partial.entries()) == list(one.entries())
        assert (partial.root_digest() == one.root_digest()) is is_same
        assert (partial.bucket_digests() == one.bucket_digests()) is is_same


@unhurried
@given(histories)
def test_a_key_never_goes_back_to_an_older_entry(history: list[Entry]) -> None:
    state = state_of(ME)
    for each in history:
        before = state.get(each.owner, each.key)
        state.apply(each)
        after = state.get(each.owner, each.key)
        if after is None:
            assert state.is_below_floor(each.owner, each.version.epoch)
            continue
        assert before is None or after.rank >= before.rank
        assert after.rank >= each.rank


@unhurried
@given(histories)
def test_nothing_below_a_floor_comes_back(history: list[Entry]) -> None:
    state = state_of(ME)
    gone: set[Entry] = set()
    for each in history:
        applied = state.apply(each)
        if isinstance(applied, Applied):
            gone |= set(applied.dropped)
    assert all(state.apply(each) == Refused("below_floor") for each in sorted(gone, key=lambda e: e.rank))
    assert gone.isdisjoint(state.entries())


@unhurried
@given(histories, st.randoms(use_true_random=False))
def test_a_floor_leaves_no_gap(history: list[Entry], rng: Random) -> None:
    """Until what an owner wrote again has arrived, what it wrote before still stands."""
    written = [entry(0, key, 1, 1, b"\x80") for key in "ab"]
    again = [entry(0, key, 3, 1, b"\x80") for key in "ab"]
    state = replica(written)
    late = [*again, floor(0, 3)]
    rng.shuffle(late)
    for each in late:
        state.apply(each)
        assert all(state.get(OWNERS[0].peer, key) is not None for key in "ab")
    assert list(replica(written, late, history).entries()) == list(replica(history, late).entries())


def join(one: Claim, other: Claim) -> Claim:
    return max(one, other)


claims = st.builds(Claim, st.integers(-1, 3), st.sampled_from(Status))


@given(claims, claims, claims)
def test_claims_on_a_life_merge_in_any_order(a: Claim, b: Claim, c: Claim) -> None:
    assert join(join(a, b), c) == join(a, join(b, c)) == join(c, join(b, a))
    assert join(a, a) == a
