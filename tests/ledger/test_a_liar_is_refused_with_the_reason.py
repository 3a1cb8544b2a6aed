"""Whatever a member tells that is not so is refused, counted under its name, and changes nothing."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from ledger.entry import Author, Entry, sign_entry, sign_shared_entry
from ledger.floor import floor_key, floor_value
from ledger.sync_messages import Entries, News
from ledger.version import VERSION_PART_MAX, Version
from p2p.identity import Identity
from tests.ledger.honest_swarm import ADMIN, ALICE, BOB, HONEST, LIAR, HonestSwarm
from tests.ledger.people import STRANGER, author

LYING_ADMIN = author(67, "admin", invite=212)
EVERYONE = len(HONEST)


def forged(victim: Author, key: str, version: Version) -> Entry:
    """What `victim` never wrote: its key and its credential, which are public, and the liar's signature."""
    written = sign_entry(victim, key, version, b"\x80")
    signature = LIAR.identity.sign(b"localai-node ledger entry\n" + written.encoded[:-64])
    return replace(written, encoded=written.encoded[:-64] + signature)


def stolen() -> Entry:
    """An entry of a node that is no member, with a member's credential."""
    nobody = Author(Identity(bytes([99]) * 32), ALICE.credential)
    return sign_entry(nobody, "node", Version(1, 1), b"\x80")


def of_another_swarm() -> Entry:
    return sign_entry(author(68, founder=STRANGER), "node", Version(1, 1), b"\x80")


def altered_after_it_was_signed() -> bytes:
    encoded = bytearray(sign_entry(ALICE, "node", Version(5, 1), b"\x81\xa1x\x01").encoded)
    encoded[encoded.index(b"\x81\xa1x\x01") + 3] = 2
    return bytes(encoded)


LIES: dict[str, tuple[Entry | bytes, str]] = {
    "forged owner": (forged(ALICE, "node", Version(1, 9)), "bad_signature"),
    "forged owner of the next epoch": (forged(ALICE, "node", Version(9, 1)), "bad_signature"),
    "altered after it was signed": (altered_after_it_was_signed(), "bad_signature"),
    "member of another swarm": (of_another_swarm(), "not_a_member"),
    "stolen credential": (stolen(), "not_a_member"),
    "decision for the swarm by a worker": (sign_shared_entry(LIAR, "alias/a", 5, b"\x80"), "not_the_owner"),
    "deletion for the swarm by a worker": (sign_shared_entry(LIAR, "alias/a", 9, None), "not_the_owner"),
    "value too large": (sign_entry(LIAR, "a", Version(1, 1), bytes(16_385)), "too_large"),
    "key too long": (sign_entry(LIAR, "k" * 161, Version(1, 1), b"\x80"), "too_large"),
    "counter of the future": (sign_entry(LIAR, "a", Version(1, VERSION_PART_MAX + 1), b""), "too_far_ahead"),
    "epoch of the future": (sign_entry(LIAR, "a", Version(2**64 - 1, 1), b""), "too_far_ahead"),
    "clock of the future": (
        sign_shared_entry(LYING_ADMIN, "alias/a", VERSION_PART_MAX + 1, b"\x80"),
        "too_far_ahead",
    ),
    "format of the future": (b"\x09" + bytes(200), "unknown_format"),
}
CUTS_OFF = "bad_signature"
"""Nobody who is honest can have it: who passes it on did not look. All else an honest node of another
version, or one that has seen other things, might say."""


@pytest.fixture
def swarm() -> HonestSwarm:
    """In which Alice said something, and an admin decided something."""
    swarm = HonestSwarm()
    swarm.put(ALICE, "node", b"\x81\xa1x\x00")
    swarm.tell(sign_shared_entry(ADMIN, "alias/a", 1, b"\x81\xa1x\x00"))
    return swarm


@pytest.mark.parametrize("as_news", [False, True], ids=["in an answer", "as news"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_counted_and_changes_nothing(
    swarm: HonestSwarm, lie: str, as_news: bool
) -> None:
    entry, reason = LIES[lie]
    before = [node.replica.state.root_digest() for node in swarm.nodes.values()]
    swarm.tell(entry, as_news=as_news)
    assert swarm.refused(reason) == [1] * EVERYONE
    assert [node.replica.state.root_digest() for node in swarm.nodes.values()] == before
    for node in swarm.nodes.values():
        assert bool(node.cut_off) is (reason == CUTS_OFF)
        assert dict(node.complaints) == {reason: 1}


@pytest.mark.parametrize("lie", LIES)
def test_the_honest_rest_goes_on(swarm: HonestSwarm, lie: str) -> None:
    swarm.tell(LIES[lie][0])
    swarm.put(BOB, "node", b"\x80")
    swarm.run(5.0)
    assert swarm.honest_are_equal
    assert all(node.replica.state.get(BOB.peer, "node") for node in swarm.nodes.values())


def test_what_is_old_is_refused_and_nobodys_fault(swarm: HonestSwarm) -> None:
    old = swarm.nodes[ALICE.peer].replica.state.get(ALICE.peer, "node")
    assert old is not None
    swarm.put(ALICE, "node", b"\x81\xa1x\x01")
    before = swarm.refused("stale")
    swarm.tell(old, as_news=True)
    swarm.tell(old)
    assert swarm.refused("stale") == [count + 2 for count in before]
    assert swarm.honest_are_equal
    assert not any(node.complaints or node.cut_off for node in swarm.nodes.values())


def test_what_was_deleted_does_not_come_back(swarm: HonestSwarm) -> None:
    alice = swarm.nodes[ALICE.peer].replica
    old = alice.state.get(ALICE.peer, "node")
    assert old is not None
    alice.delete("node")
    swarm.run(5.0)
    assert swarm.honest_are_equal
    before = swarm.refused("stale")
    swarm.tell(*[old] * 100, as_news=True)
    assert swarm.refused("stale") == [count + 100 for count in before]
    swarm.run(5.0)
    for node in swarm.nodes.values():
        stands = node.replica.state.get(ALICE.peer, "node")
        assert stands is not None
        assert stands.deleted


def test_what_is_below_a_floor_does_not_come_back(swarm: HonestSwarm) -> None:
    alice = swarm.nodes[ALICE.peer].replica
    for number in range(20):
        alice.put(f"model/{number}", b"\x80")
    old = alice.state.entries_of(ALICE.peer)
    alice.retire("leave", b"\x80")
    swarm.run(5.0)
    assert swarm.honest_are_equal
    assert len(alice.state.entries_of(ALICE.peer)) == 2, "her leave, and the floor"
    before = swarm.refused("below_floor")
    swarm.tell(*old, as_news=True)
    assert swarm.refused("below_floor") == [count + len(old) for count in before]
    swarm.run(5.0)
    assert swarm.honest_are_equal


def test_nobody_can_put_a_floor_under_another(swarm: HonestSwarm) -> None:
    written = sign_entry(ALICE, floor_key(2**40), Version(2**40, 1), floor_value(0))
    signature = LIAR.identity.sign(b"localai-node ledger entry\n" + written.encoded[:-64])
    swarm.tell(written.encoded[:-64] + signature)
    assert swarm.refused("bad_signature") == [1] * EVERYONE
    assert swarm.honest_are_equal


def test_nobody_can_make_another_believe_that_it_was_copied(swarm: HonestSwarm) -> None:
    boot = sign_entry(LIAR, "boot", Version(1, 1), b"\x82\xa2id\xa1x\xa3met\xa1y")
    swarm.tell(boot, forged(ALICE, "boot", Version(9, 9)), to=[ALICE])
    alice = swarm.nodes[ALICE.peer].replica
    assert not alice.is_copied
    assert all(entry.version.epoch == 1 for entry in alice.state.entries_of(ALICE.peer))


def test_what_came_before_a_lie_in_the_same_message_stays(swarm: HonestSwarm) -> None:
    true = sign_entry(LIAR, "node", Version(1, 1), b"\x80")
    swarm.lie(News((true.encoded, forged(ALICE, "node", Version(1, 9)).encoded, b"\x02")))
    assert all(node.replica.state.get(LIAR.peer, "node") == true for node in swarm.nodes.values())
    assert all(node.cut_off for node in swarm.nodes.values())


def test_who_was_cut_off_is_not_heard(swarm: HonestSwarm) -> None:
    swarm.lie(Entries((b"\x02 no entry",)))
    swarm.tell(sign_entry(LIAR, "node", Version(1, 1), b"\x80"), as_news=True)
    assert all(node.replica.state.get(LIAR.peer, "node") is None for node in swarm.nodes.values())
    assert all(len(node.cut_off) == 1 for node in swarm.nodes.values())


@pytest.mark.parametrize("position", range(51))
def test_an_altered_head_never_enters(swarm: HonestSwarm, position: int) -> None:
    """Format, scope, writer, version, deletion: each byte is signed."""
    genuine = sign_entry(ALICE, "node", Version(7, 7), b"\x80").encoded
    altered = genuine[:position] + struct.pack("B", genuine[position] ^ 1) + genuine[position + 1 :]
    before = swarm.nodes[BOB.peer].replica.state.root_digest()
    swarm.tell(altered, to=[BOB])
    assert swarm.nodes[BOB.peer].replica.state.root_digest() == before
