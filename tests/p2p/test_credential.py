"""A chain of signed links gives what its narrowest link gives, and to one peer only."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.credential import (
    EXPIRY_LEEWAY,
    LINK_COUNT_MAX,
    NEVER,
    Credential,
    Invite,
    Link,
    Role,
    credential_bytes,
    link_bytes,
)
from p2p.errors import NotAdmitted
from p2p.peer import PeerId
from tests.p2p.people import ALICE, BOB, FOUNDER, identity, invite

NOW = 1_800_000_000.0

FIXED_CREDENTIAL = (
    "82a56c696e6b739194c420aea3704c8afa64bfc22df9d7cf4b2c67411edce10b60a1ed9d4d5e9dea2f7a4c0200c44059"
    "842478e9ed4c378a79e1b91d8949177b3787ddcf5b5c659b9cf4c854971d0d8ab4252519b5f31009869447378f22b71a"
    "3b3d1be213a0ec109485b2eeba8103a97369676e6174757265c440aade5fbd493f3268c22f171eb3a7ca1c238720f374"
    "6d5b3b045fedb9ec1e4717f5fde445f2a0d8130fab4a42c13e3c30acc50f82b23d08d4ec0e4778a7082f0a"
)
"""Alice's, from `invite()`."""


def verified(credential: Credential, peer: PeerId = ALICE.peer_id, unix_time: float = NOW) -> Role:
    return credential.verify(FOUNDER.public_key, peer, unix_time).role


@pytest.mark.parametrize("role", ["client", "worker", "admin"])
def test_a_credential_gives_the_role_of_its_invite(role: Role) -> None:
    its_invite = invite(role)
    grant = its_invite.credential_for(ALICE.peer_id).verify(FOUNDER.public_key, ALICE.peer_id, NOW)
    assert (grant.role, grant.invites, grant.expires_at) == (role, (its_invite.links[0].id,), NEVER)


def test_a_link_is_signed_over_these_bytes_for_ever() -> None:
    signed = link_bytes(bytes(range(32)), bytes(range(32, 64)), "worker", 1_790_000_000)
    assert signed.hex() == (
        "6c6f63616c61692d6e6f64652f696e766974652d6c696e6b2f3100"
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
        "02000000006ab13b80"
    )


def test_a_credential_is_signed_over_these_bytes_for_ever() -> None:
    signed = credential_bytes(bytes(range(32)), ALICE.peer_id)
    assert signed.hex() == (
        "6c6f63616c61692d6e6f64652f63726564656e7469616c2f3100"
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" + ALICE.public_key.hex()
    )


def test_a_fixed_credential_still_verifies() -> None:
    # Written down once: a change of layout, hash or signature would lock every member out.
    packed = bytes.fromhex(FIXED_CREDENTIAL)
    credential = Credential.from_wire_untrusted(msgpack.unpackb(packed))
    assert verified(credential) == "worker"
    assert credential == invite().credential_for(ALICE.peer_id)


def test_another_peer_cannot_use_it() -> None:
    with pytest.raises(NotAdmitted, match="another node"):
        verified(invite().credential_for(ALICE.peer_id), BOB.peer_id)


def test_another_founders_invite_is_worth_nothing() -> None:
    foreign = invite(founder=identity("stranger"))
    with pytest.raises(NotAdmitted, match="not from this swarm's founder"):
        verified(foreign.credential_for(ALICE.peer_id))


def test_an_expired_invite_is_refused_only_after_the_leeway() -> None:
    credential = invite(expires_at=int(NOW)).credential_for(ALICE.peer_id)
    assert verified(credential, unix_time=NOW + EXPIRY_LEEWAY) == "worker"
    with pytest.raises(NotAdmitted, match="expired 0 d 2 h 0 min ago"):
        verified(credential, unix_time=NOW + 7200)


def test_a_narrower_link_holds_and_names_the_whole_chain() -> None:
    first = invite("admin")
    second = first.delegate(identity("friend"), "client", int(NOW) + 60)
    grant = second.credential_for(ALICE.peer_id).verify(FOUNDER.public_key, ALICE.peer_id, NOW)
    assert (grant.role, grant.expires_at) == ("client", int(NOW) + 60)
    assert grant.invites == tuple(link.id for link in second.links)
    assert grant.invites[0] == first.links[0].id


@pytest.mark.parametrize(
    ("role", "expires_at"),
    [("admin", 1000), ("worker", 1001), ("worker", NEVER)],
    ids=["role", "later", "never"],
)
def test_a_link_that_gives_more_than_its_parent_is_refused(role: Role, expires_at: int) -> None:
    parent = invite("worker", 1000)
    with pytest.raises(NotAdmitted, match="gives more"):
        parent.delegate(identity("friend"), role, expires_at)
    # Nor does it help to sign it oneself, with the seed of the parent.
    key = identity("friend")
    signature = parent.key.sign(link_bytes(FOUNDER.public_key, key.public_key, role, expires_at))
    forged = Invite(
        FOUNDER.public_key, key, (*parent.links, Link(key.public_key, role, expires_at, signature))
    )
    with pytest.raises(NotAdmitted, match="gives more"):
        verified(forged.credential_for(ALICE.peer_id), unix_time=0)


def test_a_chain_may_not_grow_for_ever() -> None:
    longest = invite("admin")
    for number in range(1, LINK_COUNT_MAX):
        longest = longest.delegate(identity(f"friend {number}"), "admin", NEVER)
    assert verified(longest.credential_for(ALICE.peer_id)) == "admin"
    with pytest.raises(NotAdmitted, match="links"):
        longest.delegate(identity("one too many"), "admin", NEVER)


def test_links_hold_in_their_order_only() -> None:
    chain = invite("admin").delegate(identity("friend"), "worker", NEVER)
    credential = chain.credential_for(ALICE.peer_id)
    for links in ((), chain.links[1:], chain.links[::-1], chain.links[:1]):
        with pytest.raises(NotAdmitted):
            verified(replace(credential, links=links))


@given(st.data())
def test_no_changed_bit_goes_unnoticed(data: st.DataObject) -> None:
    credential = invite("worker", int(NOW) + 60).credential_for(ALICE.peer_id)
    packed = bytearray(msgpack.packb(credential.to_wire()))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        value = msgpack.unpackb(bytes(packed))
    except (ValueError, msgpack.UnpackException):
        return  # Not even msgpack: refused before it gets here.
    with pytest.raises(NotAdmitted):
        verified(Credential.from_wire_untrusted(value))


wire_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=70) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["links", "signature"]), inner)
    ),
    max_leaves=12,
)


@given(wire_values)
def test_whatever_arrives_is_a_credential_or_not_admitted(value: object) -> None:
    with pytest.raises(NotAdmitted):
        verified(Credential.from_wire_untrusted(value))


def test_near_misses_of_a_credential_are_not_admitted() -> None:
    good = invite().credential_for(ALICE.peer_id).to_wire()
    link = good["links"][0]
    near_misses: list[object] = [
        {**good, "signature": good["signature"][:-1]},
        {**good, "links": []},
        {**good, "links": [link] * (LINK_COUNT_MAX + 1)},
        {**good, "links": [link[:3]]},
        {**good, "links": [[*link, b""]]},
        {**good, "links": [[link[0], 9, *link[2:]]]},
        {**good, "links": [[link[0], link[1], -1, link[3]]]},
        {**good, "links": [[link[0], link[1], 2**70, link[3]]]},
        {**good, "links": [[link[0][:-1], *link[1:]]]},
        {"links": good["links"]},
    ]
    assert verified(Credential.from_wire_untrusted({**good, "later": 1})) == "worker"
    for near_miss in near_misses:
        with pytest.raises(NotAdmitted):
            verified(Credential.from_wire_untrusted(near_miss))


def test_an_invite_does_not_print_its_seed() -> None:
    shown = repr(invite())
    assert all(repr(secret) not in shown for secret in (invite().key.seed, invite().links[0].signature))


def test_ids_of_links_differ() -> None:
    ids = sorted(invite(expires_at=number).links[0].id for number in range(50))
    assert all(one != other for one, other in pairwise(ids))
