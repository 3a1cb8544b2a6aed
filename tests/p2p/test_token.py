"""A token carries a swarm in one short line, and says what is wrong with it when it does not."""

from __future__ import annotations

import string
from base64 import urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.credential import NEVER
from p2p.errors import BadAddress, BadToken
from p2p.peer import PeerAddress
from p2p.token import ADDRESS_COUNT_MAX, SWARM_NAME_SIZE_MAX, Token
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, FOUNDER, identity, invite

LAN = PeerAddress(ALICE.peer_id, "/ip4/192.168.100.107/tcp/47470")
IPV6 = PeerAddress(ALICE.peer_id, "/ip6/fd12:3456:789a:1:1c2d:3e4f:5a6b:7c8d/tcp/4747")
NAMED = PeerAddress(ALICE.peer_id, "/dns4/swarm.example.org/tcp/4747")
LONGEST_NAME = "anna-macbook-pro's swarm"
EXPIRES_AT = 1_790_000_000

TOKEN = Token("home", bytes(range(16)), (LAN,), invite())
TEXT = TOKEN.encode()
BASE64 = string.ascii_letters + string.digits + "-_"


def encoded(raw: bytes, checksum: bytes | None = None) -> str:
    """A token around any body."""
    whole = raw + (sha256(raw).digest()[:4] if checksum is None else checksum)
    return "lnode1" + urlsafe_b64encode(whole).decode().rstrip("=")


def body() -> dict[object, object]:
    """The map inside `TEXT`."""
    links = [[None, *link.to_wire()[1:]] for link in TOKEN.invite.links]
    founder = TOKEN.invite.founder_public_key
    places = [[ALICE.public_key, [bytes.fromhex("04c0a8646b06b96e")]]]
    return {0: "home", 1: TOKEN.secret, 2: founder, 3: places, 4: TOKEN.invite.key.seed, 5: links}


def test_a_token_decodes_to_what_was_encoded() -> None:
    chain = invite("admin").delegate(identity("friend"), "worker", EXPIRES_AT)
    for addresses in ((), (LAN,), (LAN, IPV6, NAMED, PeerAddress(BOB.peer_id, "/ip4/10.0.0.1/tcp/1"))):
        token = Token("Küche", bytes(16), addresses, chain)
        decoded = Token.decode(token.encode())
        assert decoded.facts == token.facts
        assert (decoded.secret, decoded.invite.key.seed) == (token.secret, chain.key.seed)


def test_the_layout_is_this_for_ever() -> None:
    assert encoded(msgpack.packb(body())) == TEXT


def test_unknown_keys_are_ignored() -> None:
    later = {**body(), 77: "later", "x": 1}
    assert Token.decode(encoded(msgpack.packb(later))).facts == TOKEN.facts


@pytest.mark.parametrize("address", [LAN, IPV6, NAMED], ids=["ip4", "ip6", "dns4"])
def test_one_address_and_one_link_fit_350_characters(address: PeerAddress) -> None:
    assert len(LONGEST_NAME.encode()) == SWARM_NAME_SIZE_MAX
    token = Token(LONGEST_NAME, bytes(16), (address,), invite(expires_at=EXPIRES_AT))
    assert len(token.encode()) <= 350


def test_four_addresses_and_three_links_fit_900_characters() -> None:
    chain = invite("admin").delegate(identity("a"), "worker", EXPIRES_AT).delegate(identity("b"), "worker", 9)
    addresses = tuple(PeerAddress(peer.peer_id, IPV6.multiaddr) for peer in (ALICE, BOB, CAROL, DAVE))
    assert len(Token(LONGEST_NAME, bytes(16), addresses, chain).encode()) <= 900


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.sampled_from(" \n\t\r")), max_size=20))
def test_white_space_anywhere_in_a_pasted_token_is_ignored(spaces: list[tuple[int, str]]) -> None:
    text = TEXT
    for position, space in spaces:
        text = text[:position] + space + text[position:]
    assert Token.decode(text).facts == TOKEN.facts


@pytest.mark.parametrize(
    "text", ["", "hello", "b3RwOgogIGRodDoKICAgIGludGVydmFsOiA5MDAw", "LNODE1" + TEXT[6:], '"' + TEXT]
)
def test_what_is_no_token_is_called_none(text: str) -> None:
    with pytest.raises(BadToken, match="not a token of localai-node"):
        Token.decode(text)


def test_a_later_version_asks_for_an_upgrade() -> None:
    with pytest.raises(BadToken, match="another version"):
        Token.decode("lnode2" + TEXT[6:])


def test_a_token_cut_anywhere_is_called_cut() -> None:
    for length in range(len("lnode1"), len(TEXT)):
        with pytest.raises(BadToken, match=r"cut|copied to its end"):
            Token.decode(TEXT[:length])


@given(st.integers(len("lnode1"), len(TEXT) - 1), st.sampled_from(BASE64))
def test_no_altered_character_goes_unnoticed(position: int, character: str) -> None:
    altered = TEXT[:position] + character + TEXT[position + 1 :]
    if altered != TEXT:
        with pytest.raises(BadToken, match=r"altered|cut"):
            Token.decode(altered)


@pytest.mark.parametrize("extra", ["x", "xxxx", "!", "==", "é", TEXT, "A" * 5000])
def test_something_pasted_behind_a_token_is_noticed(extra: str) -> None:
    with pytest.raises(BadToken):
        Token.decode(TEXT + extra)


def test_an_expired_token_can_be_looked_at_and_not_used() -> None:
    token = Token.decode(replace(TOKEN, invite=invite(expires_at=EXPIRES_AT)).encode())
    assert token.facts.grant.expires_at == EXPIRES_AT
    token.require_unexpired(EXPIRES_AT)
    with pytest.raises(BadToken, match="expired"):
        token.require_unexpired(EXPIRES_AT + 3600)


def test_a_token_without_expiry_never_expires() -> None:
    assert TOKEN.facts.grant.expires_at == NEVER
    TOKEN.require_unexpired(2.0**40)


def test_an_invite_of_another_founder_does_not_hold() -> None:
    forged = {**body(), 2: identity("another founder").public_key}
    with pytest.raises(BadToken, match="invite does not hold"):
        Token.decode(encoded(msgpack.packb(forged)))


def test_a_seed_of_another_invite_does_not_hold() -> None:
    forged = {**body(), 4: identity("another invite").seed}
    with pytest.raises(BadToken, match="invite does not hold"):
        Token.decode(encoded(msgpack.packb(forged)))


def test_a_stolen_link_is_worth_nothing_without_its_seed() -> None:
    stolen = {**body(), 4: identity("thief").seed, 5: [link.to_wire() for link in TOKEN.invite.links]}
    with pytest.raises(BadToken, match="seed does not belong"):
        Token.decode(encoded(msgpack.packb(stolen)))


def test_near_misses_with_a_true_checksum_are_bad_tokens() -> None:
    good = body()
    near_misses: list[object] = [
        {key: value for key, value in good.items() if key != left_out} for left_out in good
    ]
    near_misses += [{**good, key: None} for key in good]
    near_misses += [
        {**good, 0: "x" * (SWARM_NAME_SIZE_MAX + 1)},
        {**good, 0: "two\nlines"},
        {**good, 0: ""},
        {**good, 1: bytes(15)},
        {**good, 3: [[ALICE.public_key, [b"\x04abc"]]]},
        {**good, 3: [[ALICE.public_key, [b""]]]},
        {**good, 3: [[ALICE.public_key, ["/ip4/1.2.3.4/tcp/1"]]]},
        {**good, 3: [[b"short", []]]},
        {**good, 3: [[ALICE.public_key, []]] * (ADDRESS_COUNT_MAX + 1)},
        {**good, 5: []},
        [],
        7,
    ]
    for near_miss in near_misses:
        with pytest.raises(BadToken):
            Token.decode(encoded(msgpack.packb(near_miss)))


@given(st.binary(max_size=300))
def test_any_bytes_with_a_true_checksum_raise_nothing_else(raw: bytes) -> None:
    with pytest.raises(BadToken):
        Token.decode(encoded(raw))


def test_a_token_that_could_not_be_read_is_not_made() -> None:
    with pytest.raises(BadToken, match="name"):
        replace(TOKEN, swarm="x" * (SWARM_NAME_SIZE_MAX + 1)).encode()
    with pytest.raises(BadToken, match="addresses"):
        replace(TOKEN, addresses=(LAN,) * (ADDRESS_COUNT_MAX + 1)).encode()
    with pytest.raises(BadAddress):
        replace(TOKEN, addresses=(PeerAddress(ALICE.peer_id, "/nonsense/1"),)).encode()


def test_a_token_shows_neither_its_secret_nor_its_seed() -> None:
    for shown in (repr(TOKEN), str(TOKEN), repr(TOKEN.facts)):
        for secret in (TOKEN.secret, TOKEN.invite.key.seed):
            assert repr(secret)[2:-1] not in shown
            assert secret.hex() not in shown


def test_facts_name_swarm_founder_addresses_and_invite() -> None:
    facts = TOKEN.facts
    assert (facts.swarm, facts.founder_public_key, facts.addresses) == ("home", FOUNDER.public_key, (LAN,))
    assert (facts.grant.role, facts.grant.invites) == ("worker", (TOKEN.invite.links[0].id,))
