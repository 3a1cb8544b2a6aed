"""The join token: the one line that lets a machine into a swarm.

    lnode1 + base64url( msgpack map + checksum )        checksum: 4 bytes of sha256

    key   holds
    0     name of the swarm
    1     secret, 16 bytes: keeps strangers off the wire (see `secret.py`)
    2     the founder's public key: the root of every credential
    3     bootstrap addresses: [[public key of a peer, [binary multiaddr, ...]], ...]
    4     seed of the invite's key: signs the joiner's own credential, offline
    5     links of the invite: [[public key, role, expiry, signature], ...]; the last public
          key is nil, since it follows from the seed

The digit after `lnode` is the version of this layout. Keys a version does not
know are ignored. Everything is binary and keys are numbers to keep a token with
one address within 350 characters, a length that survives a chat message.

A token is a secret: whoever has it may join. `repr` and `facts` show neither
the secret nor the seed.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import Any

import msgpack
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from p2p.credential import LINK_COUNT_MAX, Grant, Invite, Link, require_unexpired
from p2p.errors import BadAddress, BadToken, NotAdmitted, NotMsgpack
from p2p.identity import PUBLIC_KEY_SIZE, SEED_SIZE, Identity
from p2p.peer import PeerAddress, peer_id_of, public_key_of
from p2p.secret import SECRET_SIZE
from p2p.unpack import unpack_untrusted

_PROGRAM = "lnode"
_VERSION = "1"
_CHECKSUM_SIZE = 4
"""One accidental change in four thousand million goes unnoticed; signatures catch the deliberate ones."""

SWARM_NAME_SIZE_MAX = 24
"""Bytes of UTF-8. With it a token with one IPv6 address and one link takes 350 characters at most."""

ADDRESS_COUNT_MAX = 8
"""A machine's own LAN, VPN and IPv6 addresses, and some of a friend's; any one of them is enough to join."""

_TEXT_LENGTH_MAX = 4096
"""Four times the longest token `encode` is meant for: what is longer is a pasted file."""


class _Key(IntEnum):
    """What the map's keys mean. Append only: the numbers are in people's tokens."""

    NAME = 0
    SECRET = 1
    FOUNDER = 2
    ADDRESSES = 3
    SEED = 4
    LINKS = 5


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a token says, without what it lets one do."""

    swarm: str
    founder_public_key: bytes
    addresses: tuple[PeerAddress, ...]
    grant: Grant


@dataclass(frozen=True, slots=True)
class Token:
    """A swarm, where to find it, and an invite to it."""

    swarm: str
    secret: bytes = field(repr=False)
    addresses: tuple[PeerAddress, ...]
    """Where to find members: at least one when a person is to use the token."""
    invite: Invite

    @property
    def facts(self) -> TokenFacts:
        """For a person to look at."""
        return TokenFacts(self.swarm, self.invite.founder_public_key, self.addresses, self.invite.grant())

    def require_unexpired(self, unix_time: float) -> None:
        """Nothing, if the invite still holds by this machine's clock.

        Raises:
          BadToken: it has expired.
        """
        try:
            require_unexpired(self.invite.grant(), unix_time)
        except NotAdmitted as error:
            raise BadToken(f"this token cannot be used any more: {error}") from error

    def encode(self) -> str:
        """The token as text.

        Raises:
          BadToken: the name is too long, or there are too many addresses.
          BadAddress: an address is none that can be dialled.
        """
        check_swarm_name(self.swarm)
        if len(self.addresses) > ADDRESS_COUNT_MAX:
            raise BadToken(f"a token takes {ADDRESS_COUNT_MAX} addresses, not {len(self.addresses)}")
        links = [link.to_wire() for link in self.invite.links]
        links[-1][0] = None
        body = msgpack.packb(
            {
                _Key.NAME: self.swarm,
                _Key.SECRET: self.secret,
                _Key.FOUNDER: self.invite.founder_public_key,
                _Key.ADDRESSES: _addresses_to_wire(self.addresses),
                _Key.SEED: self.invite.key.seed,
                _Key.LINKS: links,
            }
        )
        return _PROGRAM + _VERSION + _to_base64(body + _checksum(body))

    @classmethod
    def decode(cls, text: str) -> Token:
        """The token in `text`, with its invite's signatures verified. White space anywhere is ignored:
        terminals and mail programs wrap long lines.

        An expired token decodes, so that it can be looked at: see `require_unexpired`.

        Raises:
          BadToken: and nothing else, with one line that says what is wrong.
        """
        body = _body_untrusted("".join(text[: 2 * _TEXT_LENGTH_MAX].split()))
        try:
            return cls._from_wire(body)
        except NotAdmitted as error:
            raise BadToken(f"the token's invite does not hold: {error}") from error

    @classmethod
    def _from_wire(cls, body: dict[Any, Any]) -> Token:
        match body:
            case {
                _Key.NAME: str(swarm),
                _Key.SECRET: bytes(secret),
                _Key.FOUNDER: bytes(founder_public_key),
                _Key.ADDRESSES: [*addresses],
                _Key.SEED: bytes(seed),
                _Key.LINKS: [*links],
            } if (
                len(secret) == SECRET_SIZE
                and len(founder_public_key) == PUBLIC_KEY_SIZE
                and len(addresses) <= ADDRESS_COUNT_MAX
                and len(seed) == SEED_SIZE
                and 1 <= len(links) <= LINK_COUNT_MAX
            ):
                pass
            case _:
                raise BadToken("the token lacks something every token of this version has")
        check_swarm_name(swarm)
        key = Identity(seed)
        match links[-1]:
            case [None, *rest]:
                links[-1] = [key.public_key, *rest]
        invite = Invite(founder_public_key, key, tuple(Link.from_wire_untrusted(link) for link in links))
        invite.grant()
        return cls(swarm, secret, tuple(_addresses_from_wire(addresses)), invite)


def check_swarm_name(name: str) -> None:
    """Nothing, if a swarm may be called `name`.

    Raises:
      BadToken: it is empty, too long for a token, or would not print on one line.
    """
    if not name.isprintable() or not name.strip():
        raise BadToken("a swarm's name is one line of printable text")
    if len(name.encode("utf-8", "replace")) > SWARM_NAME_SIZE_MAX:
        raise BadToken(f"a swarm's name is at most {SWARM_NAME_SIZE_MAX} bytes, {name!r} is longer")


def _body_untrusted(text: str) -> dict[Any, Any]:
    """The msgpack map inside `text`, once everything around it is right."""
    if not text.startswith(_PROGRAM):
        raise BadToken("this is not a token of localai-node: those begin with lnode1")
    if not text.startswith(_PROGRAM + _VERSION):
        raise BadToken(
            "this token is of another version of localai-node: upgrade the older of the two machines"
        )
    if len(text) > _TEXT_LENGTH_MAX:
        raise BadToken(
            f"this token is longer than {_TEXT_LENGTH_MAX} characters: something was pasted behind it"
        )
    raw = _from_base64(text.removeprefix(_PROGRAM + _VERSION))
    body, checksum = raw[:-_CHECKSUM_SIZE], raw[-_CHECKSUM_SIZE:]
    if _checksum(body) != checksum:
        if _is_incomplete(body):
            raise BadToken("this token was cut: copy it again, to its very end")
        raise BadToken("this token was altered: copy it again")
    try:
        value = unpack_untrusted(body, strict_map_key=False)
    except NotMsgpack as error:
        # The checksum is right, so a program wrote this.
        raise BadToken("this token holds something that no version of localai-node writes") from error
    return value if isinstance(value, dict) else {}


def _is_incomplete(body: bytes) -> bool:
    """Whether `body` only lacks its end. (An altered length may look the same.)"""
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    try:
        unpacker.skip()
    except msgpack.OutOfData:
        return True
    except (ValueError, RecursionError, msgpack.UnpackException):
        return False
    return False


def _checksum(body: bytes) -> bytes:
    return sha256(body).digest()[:_CHECKSUM_SIZE]


def _to_base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise BadToken("this token was altered, or not copied to its end: copy it again") from error
    if _to_base64(raw) != text:  # The decoder skips foreign characters and ignores spare bits.
        raise BadToken("this token was altered, or not copied to its end: copy it again")
    return raw


def _addresses_to_wire(addresses: Iterable[PeerAddress]) -> list[Any]:
    """Grouped by peer, since a node has several addresses; the order within a peer is kept."""
    of_peer: dict[bytes, list[bytes]] = {}
    for address in addresses:
        try:
            binary = Multiaddr(address.multiaddr).to_bytes()
        except (MultiaddrError, ValueError) as error:
            raise BadAddress(f"{address.multiaddr!r} is not a multiaddr") from error
        of_peer.setdefault(public_key_of(address.peer), []).append(binary)
    return [[public_key, multiaddrs] for public_key, multiaddrs in of_peer.items()]


def _addresses_from_wire(groups: list[Any]) -> Iterable[PeerAddress]:
    for group in groups:
        match group:
            case [bytes(public_key), [*multiaddrs]] if (
                len(public_key) == PUBLIC_KEY_SIZE and len(multiaddrs) <= ADDRESS_COUNT_MAX
            ):
                for binary in multiaddrs:
                    yield PeerAddress(peer_id_of(public_key), _multiaddr_text(binary))
            case _:
                raise BadToken("the token's addresses are malformed")


def _multiaddr_text(binary: object) -> str:
    """The text of a binary multiaddr, which must be the one way to write it: the library accepts
    cut ones and reads something else from them."""
    if isinstance(binary, bytes) and binary:
        try:
            text = str(Multiaddr(binary))
            if Multiaddr(text).to_bytes() == binary:
                return text
        except (MultiaddrError, ValueError):
            pass
    raise BadToken("the token's addresses are malformed")
