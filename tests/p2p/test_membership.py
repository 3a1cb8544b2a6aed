"""A node keeps its place in a swarm between runs, and nothing it has no use for."""

from __future__ import annotations

import msgpack
import pytest

from p2p.errors import BadMembership, BadToken
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.peer import PeerAddress
from tests.p2p.people import ALICE, BOB, CAROL, FOUNDER, identity, invite

FOUNDED = found_swarm("home", FOUNDER, ALICE.peer_id)
ADDRESS = PeerAddress(ALICE.peer_id, "/ip4/192.168.1.7/tcp/4747")
assert FOUNDED.invite is not None
TOKEN = FOUNDED.token(FOUNDED.invite, [ADDRESS])
JOINED = join_swarm(TOKEN, BOB.peer_id)


def test_the_founders_node_is_an_admin_by_the_same_rules_as_everybody() -> None:
    assert FOUNDED.credential.verify(FOUNDER.public_key, ALICE.peer_id, 0.0).role == "admin"


def test_a_joiner_makes_a_credential_that_the_swarm_accepts() -> None:
    assert JOINED.credential.verify(FOUNDER.public_key, BOB.peer_id, 0.0).role == "worker"
    assert JOINED.bootstrap == (ADDRESS,)


@pytest.mark.parametrize("membership", [FOUNDED, JOINED], ids=["founded", "joined"])
def test_what_is_kept_comes_back(membership: SwarmMembership) -> None:
    kept = SwarmMembership.decode(membership.encode())
    assert (kept.swarm, kept.secret, kept.founder_public_key) == (
        membership.swarm,
        membership.secret,
        membership.founder_public_key,
    )
    assert (kept.credential, kept.bootstrap) == (membership.credential, membership.bootstrap)
    assert (kept.invite and kept.invite.key.seed) == (membership.invite and membership.invite.key.seed)


def test_a_worker_does_not_keep_the_seed_it_came_with() -> None:
    assert JOINED.invite is None
    assert TOKEN.invite.key.seed not in JOINED.encode()


def test_an_admin_keeps_its_invite_to_invite_others() -> None:
    admin = join_swarm(FOUNDED.token(invite("admin"), [ADDRESS]), BOB.peer_id)
    assert admin.invite is not None
    friend = admin.invite.delegate(identity("friend"), "client", 0)
    third = join_swarm(admin.token(friend, [ADDRESS]), CAROL.peer_id)
    assert third.credential.verify(FOUNDER.public_key, CAROL.peer_id, 0.0).role == "client"


def test_two_swarms_of_one_name_are_told_apart() -> None:
    assert JOINED.is_of_same_swarm(TOKEN)
    other = found_swarm("home", identity("another founder"), ALICE.peer_id)
    assert other.invite is not None
    assert not JOINED.is_of_same_swarm(other.token(other.invite, []))


def test_a_name_no_token_could_carry_founds_no_swarm() -> None:
    with pytest.raises(BadToken):
        found_swarm("x" * 100, FOUNDER, ALICE.peer_id)


def test_a_token_takes_as_many_addresses_as_fit() -> None:
    many = [PeerAddress(ALICE.peer_id, f"/ip4/10.0.0.{number}/tcp/1") for number in range(50)]
    assert FOUNDED.invite is not None
    assert FOUNDED.token(FOUNDED.invite, many).encode()


def test_a_membership_does_not_print_its_secret() -> None:
    for membership in (FOUNDED, JOINED):
        assert repr(membership.secret)[2:-1] not in repr(membership)


def test_a_newer_programs_file_is_told_apart_from_a_broken_one() -> None:
    newer = {**msgpack.unpackb(JOINED.encode()), "version": 2}
    with pytest.raises(BadMembership, match="newer localai-node"):
        SwarmMembership.decode(msgpack.packb(newer))


def test_unknown_keys_are_ignored() -> None:
    later = {**msgpack.unpackb(JOINED.encode()), "later": 1}
    assert SwarmMembership.decode(msgpack.packb(later)).swarm == "home"


def test_a_cut_file_is_refused() -> None:
    whole = FOUNDED.encode()
    for length in range(len(whole)):
        with pytest.raises(BadMembership):
            SwarmMembership.decode(whole[:length])
