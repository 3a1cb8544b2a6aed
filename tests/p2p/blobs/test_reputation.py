"""A peer whose chunks were wrong in three manifests is banned for a day."""

from __future__ import annotations

import json

from p2p.blobs.manifest import ManifestId
from p2p.blobs.reputation import BAN_TIME, MEMORY_TIME, PEERS_MAX, Reputation
from p2p.peer import PeerId

ALICE, BOB = PeerId("alice"), PeerId("bob")
NOW = 1_800_000_000.0
ONE, TWO, THREE = (ManifestId(digit * 64) for digit in "123")


def banned(now: float = NOW) -> Reputation:
    reputation = Reputation()
    for manifest in (ONE, TWO, THREE):
        reputation.note_wrong(ALICE, manifest, now)
    return reputation


def test_the_third_manifest_bans_for_a_day_and_nobody_else() -> None:
    reputation = Reputation()
    reputation.note_wrong(ALICE, ONE, NOW)
    reputation.note_wrong(ALICE, TWO, NOW + 10)
    assert not reputation.is_banned(ALICE, NOW + 10)
    reputation.note_wrong(ALICE, THREE, NOW + 20)
    assert reputation.is_banned(ALICE, NOW + 20)
    assert not reputation.is_banned(BOB, NOW + 20)
    assert reputation.is_banned(ALICE, NOW + BAN_TIME + 19)
    assert not reputation.is_banned(ALICE, NOW + BAN_TIME + 20)


def test_chunks_of_one_manifest_count_once() -> None:
    reputation = Reputation()
    for second in range(10):
        reputation.note_wrong(ALICE, ONE, NOW + second)
    assert not reputation.is_banned(ALICE, NOW + 10)


def test_what_was_long_ago_does_not_count() -> None:
    reputation = Reputation()
    reputation.note_wrong(ALICE, ONE, NOW)
    reputation.note_wrong(ALICE, TWO, NOW + MEMORY_TIME)
    reputation.note_wrong(ALICE, THREE, NOW + MEMORY_TIME + 1)
    assert not reputation.is_banned(ALICE, NOW + MEMORY_TIME + 1)


def test_after_its_day_it_begins_anew() -> None:
    reputation = banned()
    reputation.note_wrong(ALICE, ONE, NOW + BAN_TIME)
    assert not reputation.is_banned(ALICE, NOW + BAN_TIME)


def test_a_clock_that_was_set_back_bans_nobody_for_years() -> None:
    reputation = banned()
    assert not reputation.is_banned(ALICE, NOW - 400 * 24 * 3600)


def test_what_is_kept_says_the_same() -> None:
    reputation = banned()
    reputation.note_wrong(BOB, ONE, NOW)
    again = Reputation.from_map(json.loads(json.dumps(reputation.to_map())))
    assert again.is_banned(ALICE, NOW + 1)
    assert again.to_map() == reputation.to_map()
    again.note_wrong(BOB, TWO, NOW)
    again.note_wrong(BOB, THREE, NOW)
    assert again.is_banned(BOB, NOW)


def test_it_remembers_so_many_and_no_more() -> None:
    reputation = banned()
    for number in range(PEERS_MAX):
        reputation.note_wrong(PeerId(f"peer {number}"), ONE, NOW)
    assert len(reputation.to_map()) == PEERS_MAX
    assert not reputation.is_banned(ALICE, NOW)
