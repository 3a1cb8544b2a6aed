"""A node that forgot what it said goes on saying what is true now, and a copied home is found out."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import pytest
import trio

from ledger.entry import Author, Entry, sign_entry
from ledger.errors import CopiedIdentity, OverQuota
from ledger.floor import floor_key
from ledger.ledger import Ledger
from ledger.record_fields import encode_value
from ledger.records import NodeRecord
from ledger.replica import BOOT_KEY, DELETIONS_MAX
from ledger.state import Refused
from ledger.version import Version
from p2p.credential import NEVER, Invite
from p2p.identity import Identity
from tests.ledger.people import FOUNDER, author, open_ledger
from tests.mock_time import run

ME, BOB = author(9), author(2)
NODE = NodeRecord("attic", "worker", "0.1.0")


def write(key: str, version: Version, value: dict[str, Any] | None, who: Author = ME) -> Entry:
    return sign_entry(who, key, version, None if value is None else encode_value(value))


def keys(ledger: Ledger) -> list[str]:
    return [entry.key for entry in ledger.state.entries_of(ME.peer)]


def hand_over(source: Ledger, target: Ledger) -> None:
    for entry in list(source.state.entries()):
        target.receive(entry.encoded, source.me)


def settle(*ledgers: Ledger) -> None:
    """Let each tell each, until nobody has anything new."""
    while len({ledger.state.root_digest() for ledger in ledgers}) > 1:
        for source in ledgers:
            for target in ledgers:
                if source is not target:
                    hand_over(source, target)


def test_a_node_that_lost_its_disk_is_not_locked_out_by_its_own_past() -> None:
    past = [
        write("node", Version(3, 40), {"name": "old"}),
        write("model/gone", Version(3, 41), {"state": "loaded"}),
        write("model/deleted", Version(3, 42), None),
    ]
    ledger = open_ledger(ME)
    ledger.put_record(NODE)
    ledger.put("model/new", {"state": "cold"})
    for entry in past:
        ledger.receive(entry.encoded, BOB.peer)
    assert ledger.node_record(ledger.me) == NODE
    assert keys(ledger) == [BOOT_KEY, floor_key(4), "model/new", "node"]
    assert all(entry.version.epoch == 4 for entry in ledger.state.entries_of(ME.peer))


def test_what_a_lost_disk_left_with_others_is_gone_there_too() -> None:
    other = open_ledger(BOB)
    for entry in (write("node", Version(3, 1), {}), write("model/gone", Version(3, 2), {})):
        other.receive(entry.encoded, BOB.peer)
    ledger = open_ledger(ME)
    ledger.put_record(NODE)
    settle(ledger, other)
    assert other.node_record(ME.peer) == NODE
    assert other.state.get(ME.peer, "model/gone") is None


def say_all_it_may(ledger: Ledger, prefix: str) -> None:
    with suppress(OverQuota):
        for number in itertools.count():
            ledger.put(f"{prefix}{number:0159}", {"v": "y" * 600})


def test_not_even_if_it_said_all_it_may_by_the_longest_credential() -> None:
    invite = Invite.issue(FOUNDER, Identity(bytes([1]) * 32), "admin", NEVER)
    for number in (2, 3, 4):
        invite = invite.delegate(Identity(bytes([number]) * 32), "admin", NEVER)
    guest = Author(ME.identity, invite.credential_for(ME.peer))
    former, other, now = open_ledger(guest, boot_id="a"), open_ledger(BOB), open_ledger(guest, boot_id="b")
    say_all_it_may(former, "a")
    for entry in list(former.state.entries())[:125]:
        former.delete(entry.key)
    say_all_it_may(former, "b")
    hand_over(former, other)
    say_all_it_may(now, "c")
    for _ in range(2):
        hand_over(other, now)
        hand_over(now, other)
    assert now.state.root_digest() == other.state.root_digest()


def test_a_rolled_back_disk_yields_to_no_twin_of_its_own_version() -> None:
    ledger = open_ledger(ME)
    ledger.put("node", {"name": "now"})
    entry = ledger.state.get(ME.peer, "node")
    assert entry is not None
    for number in range(8):
        twin = write("node", entry.version, {"name": f"lost {number}"})
        ledger.receive(twin.encoded, BOB.peer)
    assert ledger.get(ledger.me, "node") == {"name": "now"}


def test_deletions_are_left_behind_and_do_not_pile_up() -> None:
    ledger, other = open_ledger(ME), open_ledger(BOB)
    ledger.put_record(NODE)
    for number in range(1000):
        ledger.put(f"model/{number}", {"state": "cold"})
        ledger.delete(f"model/{number}")
        settle(ledger, other)
        assert len(keys(ledger)) <= DELETIONS_MAX + 5
        assert len(keys(other)) <= DELETIONS_MAX + 5
    assert other.node_record(ME.peer) == NODE


def test_nothing_deleted_comes_back_with_a_peer_that_was_away() -> None:
    ledger, away = open_ledger(ME), open_ledger(BOB)
    ledger.put("model/old", {"state": "cold"})
    settle(ledger, away)
    kept = [entry.encoded for entry in away.state.entries_of(ME.peer)]
    ledger.delete("model/old")
    for number in range(DELETIONS_MAX + 1):
        ledger.put(f"model/{number}", {})
        ledger.delete(f"model/{number}")
    assert "model/old" not in keys(ledger), "not even its deletion is kept any more"
    outcomes = [ledger.receive(encoded, BOB.peer) for encoded in kept]
    assert outcomes == [Refused("below_floor")] * len(kept)
    settle(ledger, away)
    assert away.state.get(ME.peer, "model/old") is None


def test_a_restart_with_its_disk_is_no_copy() -> None:
    first, other = open_ledger(ME, boot_id="first"), open_ledger(BOB)
    settle(first, other)
    # It dies, and its disk has lost all it wrote.
    second = open_ledger(ME, boot_id="second")
    settle(second, other)
    assert not second._replica.is_copied
    assert other.get(ME.peer, BOOT_KEY) == {"id": "second", "met": "first"}


def test_two_processes_with_one_key_each_prove_the_other_and_stop() -> None:
    async def main() -> None:
        ours, copy, other = open_ledger(ME, boot_id="a"), open_ledger(ME, boot_id="b"), open_ledger(BOB)
        ours.put_record(NODE)
        # They never meet, and have one peer in common.
        for _ in range(6):
            for one in (ours, copy):
                hand_over(one, other)
                hand_over(other, one)
        for ledger in (ours, copy):
            with trio.fail_after(10), pytest.raises(CopiedIdentity, match=ME.peer):
                await ledger.run()

    run(main)


def test_a_liar_cannot_make_a_node_believe_in_a_copy() -> None:
    ledger = open_ledger(ME, boot_id="a")
    claim = write(BOOT_KEY, Version(9, 1), {"id": "b", "met": "a"}, who=BOB)
    ledger.receive(claim.encoded, BOB.peer)
    assert not ledger._replica.is_copied


def test_a_liar_who_kept_many_former_epochs_cannot_make_a_node_believe_in_a_copy() -> None:
    ledger = open_ledger(ME, boot_id="now")
    for epoch in range(1, 100):
        ledger.receive(write(BOOT_KEY, Version(epoch, 1), {"id": f"{epoch}", "met": ""}).encoded, BOB.peer)
        ledger.receive(write("node", Version(epoch, 2), {"name": "then"}).encoded, BOB.peer)
    assert not ledger._replica.is_copied


def test_a_copy_that_resumed_from_memory_is_found_out() -> None:
    ours, copy = open_ledger(ME, boot_id="a"), open_ledger(ME, boot_id="a")
    ours.put("node", {"name": "here"})
    copy.put("node", {"name": "there"})
    for _ in range(2):
        hand_over(ours, copy)
        hand_over(copy, ours)
    assert ours._replica.is_copied
    assert copy._replica.is_copied
