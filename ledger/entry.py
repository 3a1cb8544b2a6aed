"""An entry: one signed fact in the ledger, owned by the peer that wrote it.

    bytes
        1   format, 1
       32   owner, an Ed25519 public key
        8   epoch    \\ version
        8   counter  /
        1   deleted, 0 or 1
        2   length of the key
        4   length of the value
            key, UTF-8
            value, a msgpack map; empty when deleted
       64   the owner's signature over `_DOMAIN` and everything above

An entry is forwarded and stored as exactly these bytes, so a signature stays valid
whatever a later version puts into the value. Numbers are big-endian.

Says only what an entry is. What may enter a ledger is decided in `state.py`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.errors import BadEntry, UnknownFormat
from ledger.version import Version
from p2p.identity import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Identity, verify
from p2p.peer import PeerId, peer_id_of, public_key_of

DIGEST_SIZE = 16
"""Bytes of a digest. Accidents are excluded; two inputs made to collide (2**64 work) could
only confuse replicas about their own author's entries."""

_DOMAIN = b"localai-node ledger entry\n"
"""Signed first, so that no signature made for another purpose can pass for an entry."""
_FORMAT = 1
_HEAD = struct.Struct(f">B{PUBLIC_KEY_SIZE}sQQ?HI")


class Place(NamedTuple):
    """Where an entry stands: each place holds one."""

    owner: PeerId
    key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One signed fact. Made by `sign_entry` and `decode_entry_untrusted` only."""

    owner: PeerId
    key: str
    version: Version
    value: bytes
    """A msgpack map, or empty when deleted."""
    deleted: bool
    encoded: bytes = field(repr=False)
    """As it travels and is stored."""

    @property
    def place(self) -> Place:
        return Place(self.owner, self.key)

    @property
    def digest(self) -> bytes:
        """Names this very entry among all others."""
        return digest_of(self.encoded)

    @property
    def rank(self) -> tuple[Version, bytes]:
        """Of two entries with one owner and key, the larger rank stays.

        The digest decides only where an owner used a version twice, which a rolled
        back disk can cause: every replica must then pick the same one alone.
        """
        return self.version, self.digest

    def is_signed_by_owner(self) -> bool:
        """True if the owner wrote these very bytes. Costs 0.1 ms, the dearest check there is."""
        signed, signature = self.encoded[:-SIGNATURE_SIZE], self.encoded[-SIGNATURE_SIZE:]
        return verify(public_key_of(self.owner), signature, _DOMAIN + signed)


def digest_of(data: bytes) -> bytes:
    """The first `DIGEST_SIZE` bytes of the SHA-256 of `data`."""
    return hashlib.sha256(data).digest()[:DIGEST_SIZE]


def sign_entry(owner: Identity, key: str, version: Version, value: bytes | None) -> Entry:
    """The entry in which `owner` says that `key` has `value`; None deletes it."""
    deleted = value is None
    body = value or b""
    key_bytes = key.encode()
    sizes = len(key_bytes), len(body)
    head = _HEAD.pack(_FORMAT, owner.public_key, version.epoch, version.counter, deleted, *sizes)
    signed = head + key_bytes + body
    encoded = signed + owner.sign(_DOMAIN + signed)
    return Entry(owner.peer_id, key, version, body, deleted, encoded)


def decode_entry_untrusted(encoded: bytes) -> Entry:
    """The entry in `encoded`. Its signature has not been checked.

    Raises:
      UnknownFormat: it is in a format of a newer version.
      BadEntry: it is no entry, or not all of one.
    """
    if not encoded:
        raise BadEntry("an empty entry")
    if encoded[0] != _FORMAT:
        raise UnknownFormat(f"an entry in format {encoded[0]}; this version knows {_FORMAT}")
    if len(encoded) < _HEAD.size:
        raise BadEntry(f"an entry of only {len(encoded)} bytes")
    _, owner, epoch, counter, deleted, key_size, value_size = _HEAD.unpack_from(encoded)
    if len(encoded) != _HEAD.size + key_size + value_size + SIGNATURE_SIZE:
        raise BadEntry(f"an entry whose lengths do not add up to its {len(encoded)} bytes")
    key_end = _HEAD.size + key_size
    try:
        key = encoded[_HEAD.size : key_end].decode()
    except UnicodeDecodeError as error:
        raise BadEntry("an entry whose key is not UTF-8") from error
    if not key:
        raise BadEntry("an entry without a key")
    if deleted and value_size:
        raise BadEntry("a deleted entry with a value")
    value = encoded[key_end : key_end + value_size]
    return Entry(peer_id_of(owner), key, Version(epoch, counter), value, deleted, encoded)
