"""A refused entry says why, and leaves the state as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.entry import SWARM, Author, Entry, sign_entry, sign_shared_entry
from ledger.state import Applied, LedgerLimits, LedgerState, RefusalReason, Refused
from ledger.version import VERSION_PART_MAX, Version
from tests.ledger.people import author, state_of

ME = author(9)
ALICE = author(1)
BOB = author(2)
ADMIN = author(5, "admin")
LIMITS = LedgerLimits(
    key_size_max=8, value_size_max=64, owner_entries_max=2, owner_size_max=1000, owners_max=2, size_max=1400
)


def write(owner: Author, key: str, counter: int, value: bytes | None = b"\x80") -> Entry:
    return sign_entry(owner, key, Version(1, counter), value)


def state_with(*entries: Entry) -> LedgerState:
    state = state_of(ME.peer, LIMITS)
    for entry in entries:
        assert isinstance(state.apply(entry), Applied)
    return state


def forged() -> Entry:
    genuine = write(ALICE, "a", 1)
    encoded = genuine.encoded[:-1] + bytes([genuine.encoded[-1] ^ 1])
    return replace(genuine, encoded=encoded)


@pytest.mark.parametrize(
    ("held", "offered", "reason"),
    [
        ([], forged(), "bad_signature"),
        ([write(ALICE, "a", 2)], write(ALICE, "a", 1), "stale"),
        ([write(ALICE, "a", 2)], write(ALICE, "a", 2), "stale"),
        ([write(ALICE, "a", 2, None)], write(ALICE, "a", 1), "stale"),
        ([], write(ALICE, "a" * 9, 1), "too_large"),
        ([], write(ALICE, "a", 1, b"\x80" * 65), "too_large"),
        ([], write(ALICE, "a", VERSION_PART_MAX + 1), "too_far_ahead"),
        ([write(ALICE, "a", 1), write(ALICE, "b", 2)], write(ALICE, "c", 3), "over_quota"),
        ([write(ALICE, "a", 1), write(BOB, "a", 1)], write(author(3), "a", 1), "ledger_full"),
    ],
)
def test_an_entry_is_refused_with_the_reason(
    held: list[Entry], offered: Entry, reason: RefusalReason
) -> None:
    state = state_with(*held)
    before = state.root_digest(), state.size
    assert state.apply(offered) == Refused(reason)
    assert (state.root_digest(), state.size) == before


def test_an_owner_is_bounded_in_bytes_too() -> None:
    limits = LedgerLimits(owner_size_max=900)
    state = state_of(ME.peer, limits)
    assert isinstance(state.apply(write(ALICE, "a", 1, b"\x80" * 150)), Applied)
    assert state.apply(write(ALICE, "b", 2, b"\x80" * 150)) == Refused("over_quota")
    assert isinstance(state.apply(write(ALICE, "a", 3)), Applied), "shrinking is always possible"


def test_others_cannot_crowd_us_out_of_our_own_ledger() -> None:
    state = state_with(write(ALICE, "a", 1), write(BOB, "a", 1))
    assert isinstance(state.apply(write(ME, "a", 1)), Applied)


def test_nobody_can_crowd_out_what_admins_say_for_the_swarm() -> None:
    state = state_with(write(ALICE, "a", 1), write(BOB, "a", 1))
    assert isinstance(state.apply(sign_shared_entry(ADMIN, "alias/x", 1, b"\x80")), Applied)


def test_the_swarms_entries_count_against_no_admins_invite() -> None:
    state = state_of(ME.peer, LedgerLimits(invite_owners_max=1))
    assert isinstance(state.apply(sign_shared_entry(ADMIN, "alias/x", 1, b"\x80")), Applied)
    assert isinstance(state.apply(write(ADMIN, "a", 1)), Applied)
    assert state.apply(write(ALICE, "a", 1)) == Refused("invite_full")
    assert isinstance(state.apply(sign_shared_entry(ADMIN, "alias/y", 2, b"\x80")), Applied)
    assert state.owners() == sorted([SWARM, ADMIN.peer])


def test_what_an_entry_replaced_is_told() -> None:
    first, second = write(ALICE, "a", 1), write(ALICE, "a", 2, None)
    assert state_with(first).apply(second) == Applied(second, first)
