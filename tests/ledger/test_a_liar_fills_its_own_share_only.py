"""However much a member writes, and however many members it makes up, there is room for the others.

Unsigned entries serve where a bound is looked at before the signature is, which is what makes a flood cheap
to refuse; the tests that let something in sign it.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

import pytest

from ledger.entry import Author, Entry, decode_entry_untrusted, sign_entry
from ledger.proof import GRANTS_MAX, Proofs
from ledger.replica import Replica
from ledger.state import LedgerLimits
from ledger.version import Version
from p2p.credential import NEVER, Invite
from p2p.identity import Identity
from p2p.peer import PeerId, peer_id_of, public_key_of
from tests.ledger.honest_swarm import ALICE, BOB, HONEST, LIAR, HonestSwarm
from tests.ledger.people import FOUNDER, author

FRIEND = author(9, invite=213)
"""A member with an invite of its own."""

SMALL = LedgerLimits(
    owner_entries_max=64,
    owner_size_max=32 * 1024,
    owners_max=40,
    size_max=256 * 1024,
    invite_owners_max=20,
    invite_size_max=128 * 1024,
)
"""The proportions of the true limits, at a sixty-fourth of their size."""


def replica_of(who: Author, limits: LedgerLimits | None = None) -> Replica:
    return Replica(who, Proofs(FOUNDER.public_key), "boot", limits)


def made_up(count: int, *, seed: int = 0, keys: int = 1, value: bytes = b"\x80") -> Iterator[Entry]:
    """Entries of members that a holder of one invite makes up. It signs their credentials itself."""
    mint = Invite.issue(FOUNDER, Identity(bytes([214]) * 32), "worker", NEVER)
    for number in range(count):
        identity = Identity(bytes([seed]) + number.to_bytes(31, "big"))
        nobody = Author(identity, mint.credential_for(identity.peer_id))
        for key in range(keys):
            yield sign_entry(nobody, f"model/{key}", Version(1, key + 1), value)


def unsigned(key: str, counter: int, value: bytes = b"\x80") -> bytes:
    """An entry of the liar's without its signature."""
    pattern = sign_entry(LIAR, "k", Version(1, 1), b"\x80").encoded
    head = bytearray(pattern[:59])
    head[42:50] = counter.to_bytes(8, "big")
    head[51:53] = len(key).to_bytes(2, "big")
    head[53:57] = len(value).to_bytes(4, "big")
    return bytes(head) + key.encode() + value + pattern[61:]


def test_the_pattern_is_an_entry() -> None:
    entry = decode_entry_untrusted(unsigned("another", 7, b"\x81\xa1x\x01"))
    assert (entry.writer, entry.key, entry.version) == (LIAR.peer, "another", Version(1, 7))
    assert (entry.value, entry.credential()) == (b"\x81\xa1x\x01", LIAR.credential)


def test_a_million_keys_of_one_owner_end_at_its_quota() -> None:
    """Ten thousand stand for the million: each of them is refused alike, for its place alone."""
    replica = replica_of(BOB)
    limits = replica.state.limits
    for number in range(limits.owner_entries_max):
        replica.receive(sign_entry(LIAR, f"k{number}", Version(1, number + 1), b"\x80").encoded)
    full = replica.state.size
    assert replica.refusals == {}
    tracemalloc.start()
    try:
        for number in range(10_000):
            replica.receive(unsigned(f"more/{number}", 5_000 + number))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert replica.refusals == {"over_quota": 10_000}
    assert len(replica.state.entries_of(LIAR.peer)) == limits.owner_entries_max
    assert replica.state.size == full <= limits.owner_size_max
    # Two objects of Python's for ten thousand entries, and what it keeps by the way.
    assert held < 32 * 1024


def test_values_as_large_as_allowed_end_at_the_quota_too() -> None:
    replica = replica_of(BOB)
    limits = replica.state.limits
    for number in range(100):
        value = b"\xc5" + (limits.value_size_max - 3).to_bytes(2, "big") + bytes(limits.value_size_max - 3)
        replica.receive(sign_entry(LIAR, f"k{number}", Version(1, number + 1), value).encoded)
    held = replica.state.entries_of(LIAR.peer)
    assert len(held) == limits.owner_size_max // len(held[0].encoded)
    assert replica.refusals == {"over_quota": 100 - len(held)}
    assert replica.state.size <= limits.owner_size_max


def test_members_made_up_from_one_invite_leave_half_the_ledger_to_others() -> None:
    replica = replica_of(BOB)
    limits = replica.state.limits
    extra = 500
    for entry in made_up(limits.invite_owners_max + extra):
        replica.receive(entry.encoded)
    assert replica.refusals == {"invite_full": extra}
    assert len(replica.state.owners()) == limits.invite_owners_max == limits.owners_max // 2
    for number in range(100, 200):
        honest = author(number, invite=215)
        replica.receive(sign_entry(honest, "node", Version(1, 1), b"\x80").encoded)
        assert replica.state.get(honest.peer, "node"), "by another invite there is room"
    replica.begin()
    replica.put("node", b"\x80")
    assert len(replica.state.entries_of(BOB.peer)) == 2, "and for ourselves always"


def test_members_made_up_leave_half_of_the_bytes_to_others() -> None:
    replica = replica_of(BOB, SMALL)
    for entry in made_up(20, keys=64, value=b"\xc4\xff" + bytes(255)):
        replica.receive(entry.encoded)
    assert replica.state.size <= SMALL.invite_size_max == SMALL.size_max // 2
    assert set(replica.refusals) == {"invite_full", "over_quota"}
    for number in range(40):
        replica.receive(sign_entry(FRIEND, f"model/{number}", Version(1, number + 1), bytes(300)).encoded)
    assert len(replica.state.entries_of(FRIEND.peer)) == 40


def test_who_was_there_before_the_flood_may_still_say_something_new_of_the_same_size() -> None:
    """The invite is the one that the liar used up."""
    replica = replica_of(BOB, SMALL)
    mint = Invite.issue(FOUNDER, Identity(bytes([214]) * 32), "worker", NEVER)
    identity = Identity(bytes([77]) * 32)
    neighbour = Author(identity, mint.credential_for(identity.peer_id))
    replica.receive(sign_entry(neighbour, "node", Version(1, 1), b"\x81\xa1x\x01").encoded)
    for entry in made_up(30, keys=64, value=b"\xc4\xff" + bytes(255)):
        replica.receive(entry.encoded)
    newer = sign_entry(neighbour, "node", Version(1, 2), b"\x81\xa1x\x02")
    replica.receive(newer.encoded)
    assert replica.state.get(neighbour.peer, "node") == newer


def test_a_chain_of_delegated_invites_is_one_invite() -> None:
    replica = replica_of(BOB, SMALL)
    mint = Invite.issue(FOUNDER, Identity(bytes([214]) * 32), "worker", NEVER)
    for number in range(30):
        below = mint.delegate(Identity(bytes([number, 1]) * 16), "worker", NEVER)
        identity = Identity(bytes([number, 2]) * 16)
        nobody = Author(identity, below.credential_for(identity.peer_id))
        replica.receive(sign_entry(nobody, "node", Version(1, 1), b"\x80").encoded)
    assert len(replica.state.owners()) == SMALL.invite_owners_max
    assert replica.refusals == {"invite_full": 30 - SMALL.invite_owners_max}


def test_a_flood_of_strangers_leaves_no_trace() -> None:
    """Each is looked at once; of what was looked at, the newest verdicts are remembered."""
    replica = replica_of(BOB)
    pattern = unsigned("node", 1)
    count, more, times = GRANTS_MAX + 200, 800, 6
    total = count + times * more
    strangers = [pattern[:2] + number.to_bytes(32, "big") + pattern[34:] for number in range(total)]
    held = []
    tracemalloc.start()
    try:
        _fill_memory_of_ids()
        for start, end in pairwise([0, *range(count, total + 1, more)]):
            for encoded in strangers[start:end]:
                replica.receive(encoded)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert replica.refusals == {"not_a_member": total}
    assert replica.state.owners() == []
    assert held[0] < GRANTS_MAX * 2048, "a verdict is a credential, an id, and their place in a table"
    # What grows, grows each time; each of a few tables of the process that is rebuilt meanwhile shows once.
    grown = median(later - earlier for earlier, later in pairwise(held))
    assert grown < 64 * 1024, "a tenth of what one verdict more for each would take"


def _fill_memory_of_ids() -> None:
    """Ids converted before are remembered, up to a number: that is another test's subject."""
    for number in range(peer_id_of.cache_info().maxsize or 0):
        public_key_of(PeerId(str(peer_id_of(b"\xee" * 28 + number.to_bytes(4, "big"))).encode().decode()))


def everything() -> list[bytes]:
    """All a liar can come up with, many times what there is room for."""
    return [
        *(entry.encoded for entry in made_up(60, keys=12, value=b"\xc4\x80" + bytes(128))),
        *(
            sign_entry(LIAR, f"k{number}", Version(1, number + 1), bytes(200)).encoded
            for number in range(200)
        ),
        *(unsigned(f"k{number}", 2**60) for number in range(100)),
        *(unsigned("k" * 200, number) for number in range(100)),
        *(b"\x07" + bytes(100) for _ in range(100)),
    ]


@pytest.mark.parametrize("as_news", [False, True], ids=["in answers", "as news"])
def test_the_honest_rest_converges_in_bounded_memory(as_news: bool) -> None:
    swarm = HonestSwarm(SMALL)
    lies = everything()
    held = []
    tracemalloc.start()
    try:
        for number in range(3):
            swarm.tell(*lies, as_news=as_news)
            swarm.put(ALICE, "node", b"\x81\xa1x" + bytes([number]))
            swarm.put(BOB, f"model/{number}", b"\x80")
            swarm.run(5.0)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
            assert swarm.honest_are_equal
    finally:
        tracemalloc.stop()
    for node in swarm.nodes.values():
        assert node.replica.state.size <= SMALL.size_max
        assert node.cut_off == []
        told = Counter[str](node.replica.refusals)
        assert all(told[each] for each in ("over_quota", "invite_full", "too_far_ahead", "too_large"))
        assert told["unknown_format"] == 300
        # What an exchange found to differ is kept in mind on each link; nothing else is owed.
        assert node.spread.debts <= 2 * SMALL.owners_max * len(HONEST)
    assert held[0] < 4 * SMALL.size_max * len(HONEST), (
        "an entry is kept as it travels, and once more in parts"
    )
    assert held[2] - held[1] < 128 * 1024, "told again it is no more"
