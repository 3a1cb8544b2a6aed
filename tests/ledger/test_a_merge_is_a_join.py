"""Replicas that have seen the same entries are equal, however those came."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entry import Entry, sign_entry
from ledger.state import LedgerState, Refused
from ledger.version import Version
from tests.ledger.people import author, state_of

OWNERS = [author(1), author(2)]
ME = author(9).peer


@cache
def entry(owner: int, key: str, epoch: int, counter: int, value: bytes | None) -> Entry:
    return sign_entry(OWNERS[owner], key, Version(epoch, counter), value)


# Small ranges, so that entries often meet: even two different ones of one version.
entries = st.builds(
    entry,
    st.integers(0, 1),
    st.sampled_from("ab"),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([None, b"\x80", b"\x81\xa1x\x01"]),
)
unhurried = settings(deadline=None)
"""A machine that is busy with other tests breaks no law."""
histories = st.lists(entries, max_size=8)


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
    assert all(once.apply(each) == Refused("stale") for each in history)
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
        assert after is not None
        assert before is None or after.rank >= before.rank
        assert after.rank >= each.rank
