"""The life of a home: it founds a swarm or joins one, once, and comes back to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import ForeignSwarm, HomeDamaged, WrongUse
from node.home import Home
from node.place import found, join, load_place, new_invite, node_identity, shareable
from p2p.credential import EXPIRY_LEEWAY, NEVER, Role
from p2p.errors import BadIdentity, BadToken, NotAdmitted
from p2p.identity import Identity
from p2p.membership import SwarmMembership
from p2p.peer import PeerAddress
from p2p.token import Token

NOW = 1_800_000_000.0
LATER = NOW + 7 * 86400
AN_HOUR = int(NOW) + 3600


@pytest.fixture
def founder_home(tmp_path: Path) -> Home:
    return a_home(tmp_path / "founder")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path / "home")


def a_home(path: Path) -> Home:
    home = Home(path)
    home.create()
    return home


def a_token(founder_home: Home, role: Role = "worker", expires_at: int = NEVER) -> Token:
    """A token of the founder's swarm, as somebody gets it: as text."""
    place = load_place(founder_home) or found(founder_home)
    token = place.token(new_invite(founder_home, place, role, expires_at), [])
    return Token.decode(token.encode())


def remembered(home: Home) -> bytes:
    place = load_place(home)
    assert place is not None
    return place.encode()


def role_in(home: Home, place: SwarmMembership, unix_time: float = NOW) -> Role:
    """What the others let the node in `home` do."""
    peer = node_identity(home).peer_id
    return place.credential.verify(place.founder_public_key, peer, unix_time).role


def test_an_empty_home_has_no_place(home: Home) -> None:
    assert load_place(home) is None


def test_a_founded_swarm_is_found_again(home: Home) -> None:
    place = found(home, "attic")
    assert remembered(home) == place.encode()
    assert (place.swarm, role_in(home, place)) == ("attic", "admin")


def test_the_founders_key_is_not_the_nodes_key(home: Home) -> None:
    found(home)
    assert Identity.load(home.founder_key).peer_id != Identity.load(home.node_key).peer_id


def test_a_home_that_joined_has_no_founder_key_and_no_invite(home: Home, founder_home: Home) -> None:
    place = join(home, a_token(founder_home), NOW)
    assert not home.founder_key.exists()
    assert place.invite is None


def test_a_home_that_joined_rejoins(home: Home, founder_home: Home) -> None:
    place = join(home, a_token(founder_home), NOW)
    assert remembered(home) == place.encode()
    assert role_in(home, place) == "worker"


def test_joining_again_with_the_same_token_changes_nothing(home: Home, founder_home: Home) -> None:
    token = a_token(founder_home)
    join(home, token, NOW)
    before = (home.swarm_file.read_bytes(), home.node_key.read_bytes())
    join(home, token, NOW)
    assert (home.swarm_file.read_bytes(), home.node_key.read_bytes()) == before


def test_the_token_of_another_swarm_is_refused_and_both_are_named(home: Home, founder_home: Home) -> None:
    found(home, "attic")
    found(founder_home, "cellar")
    before = home.swarm_file.read_bytes()
    with pytest.raises(ForeignSwarm) as refusal:
        join(home, a_token(founder_home), NOW)
    assert "'attic'" in str(refusal.value)
    assert "'cellar'" in str(refusal.value)
    assert home.swarm_file.read_bytes() == before


def test_two_swarms_of_one_name_can_be_told_apart(home: Home, founder_home: Home) -> None:
    found(home)
    found(founder_home)
    with pytest.raises(ForeignSwarm) as refusal:
        join(home, a_token(founder_home), NOW)
    for each in (home, founder_home):
        assert Identity.load(each.founder_key).peer_id[-6:] in str(refusal.value)


def test_an_expired_token_is_refused_and_the_home_stays_empty(home: Home, founder_home: Home) -> None:
    token = a_token(founder_home, expires_at=int(NOW))
    with pytest.raises(BadToken, match=r"expired 7 d 0 h 0 min ago"):
        join(home, token, LATER)
    assert load_place(home) is None


def test_a_newer_token_renews_a_place_that_has_expired(home: Home, founder_home: Home) -> None:
    lent = join(home, a_token(founder_home, expires_at=AN_HOUR), NOW)
    with pytest.raises(NotAdmitted):
        role_in(home, lent, LATER)
    renewed = join(home, a_token(founder_home), LATER)
    assert role_in(home, renewed, LATER) == "worker"
    assert remembered(home) == renewed.encode()


def test_a_founder_that_joins_its_own_swarm_stays_its_founder(founder_home: Home) -> None:
    place = found(founder_home)
    for role in ("worker", "admin"):
        join(founder_home, a_token(founder_home, role), NOW)
        assert remembered(founder_home) == place.encode()


def test_an_admin_does_not_lose_its_place_to_a_workers_token(home: Home, founder_home: Home) -> None:
    admin = join(home, a_token(founder_home, "admin", AN_HOUR), NOW)
    assert admin.invite is not None
    join(home, a_token(founder_home), NOW)
    assert remembered(home) == admin.encode()


def test_an_admin_renews_its_place_by_a_newer_admins_token(home: Home, founder_home: Home) -> None:
    join(home, a_token(founder_home, "admin", AN_HOUR), NOW)
    renewed = join(home, a_token(founder_home, "admin"), NOW)
    assert role_in(home, renewed, LATER) == "admin"


def test_an_admin_whose_time_is_over_comes_back_as_what_it_is_given(home: Home, founder_home: Home) -> None:
    join(home, a_token(founder_home, "admin", AN_HOUR), NOW)
    place = join(home, a_token(founder_home), AN_HOUR + EXPIRY_LEEWAY + 1)
    assert role_in(home, place, LATER) == "worker"


def test_an_admins_invite_is_one_link_longer_and_ends_no_later(home: Home, founder_home: Home) -> None:
    admin = join(home, a_token(founder_home, "admin", AN_HOUR), NOW)
    invite = new_invite(home, admin, "client", AN_HOUR)
    assert (invite.grant().role, len(invite.links)) == ("client", 2)
    with pytest.raises(NotAdmitted, match="gives more"):
        new_invite(home, admin, "client", NEVER)


def test_a_worker_may_not_invite(home: Home, founder_home: Home) -> None:
    place = join(home, a_token(founder_home), NOW)
    with pytest.raises(WrongUse, match="may not invite others"):
        new_invite(home, place, "worker", NEVER)


def test_a_founder_key_of_an_earlier_swarm_invites_nobody_to_this_one(home: Home, founder_home: Home) -> None:
    found(home)
    home.forget_swarm()
    place = join(home, a_token(founder_home, "admin"), NOW)
    invite = new_invite(home, place, "worker", NEVER)
    assert invite.founder_public_key == place.founder_public_key
    assert invite.grant().role == "worker"


@pytest.mark.parametrize("content", [b"", b"\x80", b"not msgpack", bytes(70_000)])
def test_a_damaged_place_is_named_and_left_alone(home: Home, content: bytes) -> None:
    home.swarm_file.write_bytes(content)
    with pytest.raises(HomeDamaged, match=r"swarm\.msgpack: .*; move it away and join again with a token"):
        load_place(home)
    assert home.swarm_file.read_bytes() == content


def test_a_place_that_was_cut_is_damaged_wherever_it_was_cut(home: Home) -> None:
    found(home)
    whole = home.swarm_file.read_bytes()
    for size in range(0, len(whole), 7):
        home.swarm_file.write_bytes(whole[:size])
        with pytest.raises(HomeDamaged):
            load_place(home)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_an_unreadable_key_is_named_and_never_replaced(home: Home, content: bytes) -> None:
    home.node_key.write_bytes(content)
    with pytest.raises(BadIdentity, match=r"node\.key"):
        found(home)
    assert home.node_key.read_bytes() == content
    assert load_place(home) is None


def test_loopback_is_shared_only_if_there_is_nothing_else() -> None:
    peer = Identity(bytes(32)).peer_id
    lan, loopback, loopback6 = (
        PeerAddress(peer, f"{host}/tcp/4747") for host in ("/ip4/192.168.1.7", "/ip4/127.0.0.1", "/ip6/::1")
    )
    assert shareable([loopback, lan, loopback6]) == [lan]
    assert shareable([loopback, loopback6]) == [loopback, loopback6]
