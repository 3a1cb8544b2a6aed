"""Who a peer is and where it may be found: small values that parse and print.

A `PeerId` is libp2p's: for an Ed25519 key it *contains* the public key (an
identity multihash), so whoever knows a peer's id can check its signatures.
A `PeerAddress` is one place to dial: a multiaddr without its `/p2p/` part,
and the peer that must answer there.

Knows no sockets; `libp2p_network.py` turns these into the library's types.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

import base58

from p2p.errors import BadAddress, BadPeerId

PeerId = NewType("PeerId", str)
"""Base58 text of a libp2p peer id, for example `12D3KooW...`."""

# Multihash "identity" (0x00) of 36 bytes (0x24), then the protobuf libp2p wraps an
# Ed25519 key in: field 1 (type) = 1, field 2 (data) = 32 bytes. libp2p peer-ids spec.
_ED25519_PREFIX = bytes.fromhex("0024080112 20".replace(" ", ""))
_PEER_ID_LENGTH = len(_ED25519_PREFIX) + 32
PEER_ID_TEXT_MAX = 64
"""Base58 of 38 bytes is 52 characters; decoding is quadratic, so longer text is refused first."""
_REMEMBERED_MAX = 8192
"""Ids and keys converted before: base58 takes 40 microseconds, and each frame of the ledger names
owners. Twice the largest ledger's owners, a few megabytes."""


@lru_cache(_REMEMBERED_MAX)
def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of an Ed25519 `public_key` (32 bytes)."""
    assert len(public_key) == 32
    return PeerId(base58.b58encode(_ED25519_PREFIX + public_key).decode())


@lru_cache(_REMEMBERED_MAX)
def public_key_of(peer: PeerId) -> bytes:
    """The Ed25519 public key (32 bytes) inside `peer`.

    Raises:
      BadPeerId: it is not the id of an Ed25519 key.
    """
    if len(peer) > PEER_ID_TEXT_MAX:
        raise BadPeerId(f"a peer id of {len(peer)} characters is too long")
    try:
        raw = base58.b58decode(peer)
    except ValueError as error:
        raise BadPeerId(f"{peer!r} is not base58") from error
    if len(raw) != _PEER_ID_LENGTH or not raw.startswith(_ED25519_PREFIX):
        raise BadPeerId(f"{peer!r} is not the peer id of an Ed25519 key")
    return raw[len(_ED25519_PREFIX) :]


def parse_peer_id(text: str) -> PeerId:
    """`text` as a peer id.

    Raises:
      BadPeerId: it is not the id of an Ed25519 key.
    """
    public_key_of(PeerId(text))
    return PeerId(text)


@dataclass(frozen=True, slots=True, order=True)
class PeerAddress:
    """One place to dial, and who must answer there."""

    peer: PeerId
    multiaddr: str
    """Without `/p2p/`: for example `/ip4/192.168.1.7/tcp/4747`."""

    def __str__(self) -> str:
        return f"{self.multiaddr}/p2p/{self.peer}"

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """The address in `text`, which ends in `/p2p/<peer id>`.

        Raises:
          BadAddress: it does not, or the part before it is empty.
          BadPeerId: what follows `/p2p/` is not an Ed25519 peer id.
        """
        multiaddr, separator, peer = text.rpartition("/p2p/")
        if not separator or not multiaddr.startswith("/"):
            raise BadAddress(f"{text!r} is not a multiaddr that ends in /p2p/<peer id>")
        return cls(parse_peer_id(peer), multiaddr)
