"""An entry: one signed fact in the ledger, which proves itself.

    bytes
        1   format, 2
        1   scope: 0 the writer's own, 1 the swarm's
       32   writer, an Ed25519 public key
        8   epoch    \\ version (of the swarm's: lamport,
        8   counter  /          and the start of the writer)
        1   deleted, 0 or 1
        2   length of the key
        4   length of the value
        2   length of the credential
            key, UTF-8
            value, a msgpack map; empty when deleted
            credential, a msgpack map: the writer's right to be in this swarm
       64   the writer's signature over `_DOMAIN` and everything above

An entry is forwarded and stored as exactly these bytes, so a signature stays valid
whatever a later version puts into the value. Numbers are big-endian.

Who knows the founder's public key can judge an entry without having met its writer, in
whatever order entries come (`proof.py`). That is worth the 200 bytes of a credential.

Says only what an entry is. What may enter a ledger is decided in `state.py`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import msgpack

from ledger.errors import BadEntry, UnknownFormat
from ledger.version import Version, shared_version
from p2p.credential import Credential
from p2p.errors import NotAdmitted, NotMsgpack
from p2p.identity import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Identity, verify
from p2p.peer import PeerId, peer_id_of, public_key_of
from p2p.unpack import unpack_untrusted

DIGEST_SIZE = 16
"""Bytes of a digest. Accidents are excluded; two inputs made to collide (2**64 work) could
only confuse replicas about their own author's entries."""

CREDENTIAL_SIZE_MAX = 640
"""Bytes. One of the most links, four of 120 bytes, takes less."""

SWARM = peer_id_of(bytes(PUBLIC_KEY_SIZE))
"""The owner of what belongs to no node. Nobody writes as it: an own entry of this writer is none."""

_DOMAIN = b"localai-node ledger entry\n"
"""Signed first, so that no signature made for another purpose can pass for an entry."""
_FORMAT = 2
_HEAD = struct.Struct(f">BB{PUBLIC_KEY_SIZE}sQQ?HIH")


class Scope(IntEnum):
    """Whose an entry is. The numbers are signed: append only."""

    OWN = 0
    """The writer's: nobody else may write this key in its name."""
    SWARM = 1
    """Everybody's: any admin may write this key."""


class Place(NamedTuple):
    """Where an entry stands: each place holds one."""

    owner: PeerId
    key: str


@dataclass(frozen=True, slots=True)
class Author:
    """Who can write entries: a key, and its right to be in the swarm."""

    identity: Identity
    credential: Credential

    @property
    def peer(self) -> PeerId:
        return self.identity.peer_id


@dataclass(frozen=True, slots=True)
class Entry:
    """One signed fact. Made by `sign_entry` and `decode_entry_untrusted` only."""

    writer: PeerId
    scope: Scope
    key: str
    version: Version
    value: bytes
    """A msgpack map, or empty when deleted."""
    deleted: bool
    encoded: bytes = field(repr=False)
    """As it travels and is stored."""
    digest: bytes = field(repr=False)
    """Names this very entry among all others."""
    credential_size: int = field(repr=False)

    @property
    def owner(self) -> PeerId:
        """Whose place it stands in."""
        return self.writer if self.scope is Scope.OWN else SWARM

    @property
    def place(self) -> Place:
        return Place(self.owner, self.key)

    @property
    def rank(self) -> tuple[Version, bytes]:
        """Of two entries in one place, the larger rank stays.

        The digest decides only where a writer used a version twice, which a rolled
        back disk can cause: every replica must then pick the same one alone.
        """
        return self.version, self.digest

    @property
    def credential_bytes(self) -> bytes:
        """The credential as it travels."""
        return self.encoded[-SIGNATURE_SIZE - self.credential_size : -SIGNATURE_SIZE]

    def credential(self) -> Credential:
        """The writer's credential, not yet verified.

        Raises:
          NotAdmitted: it is none.
        """
        try:
            value = unpack_untrusted(self.credential_bytes)
        except NotMsgpack as error:
            raise NotAdmitted("the credential is malformed") from error
        return Credential.from_wire_untrusted(value)

    def is_signed_by_writer(self) -> bool:
        """True if the writer wrote these very bytes. Costs 0.1 ms, the dearest check there is."""
        signed, signature = self.encoded[:-SIGNATURE_SIZE], self.encoded[-SIGNATURE_SIZE:]
        return verify(public_key_of(self.writer), signature, _DOMAIN + signed)


def digest_of(data: bytes) -> bytes:
    """The first `DIGEST_SIZE` bytes of the SHA-256 of `data`."""
    return hashlib.sha256(data).digest()[:DIGEST_SIZE]


def sign_entry(author: Author, key: str, version: Version, value: bytes | None) -> Entry:
    """The entry in which `author` says that its own `key` has `value`; None deletes it."""
    return _sign(author, Scope.OWN, key, version, value)


def sign_shared_entry(author: Author, key: str, lamport: int, value: bytes | None) -> Entry:
    """The entry in which `author` says that the swarm's `key` has `value`; None deletes it."""
    version = shared_version(lamport, author.identity.public_key)
    return _sign(author, Scope.SWARM, key, version, value)


def _sign(author: Author, scope: Scope, key: str, version: Version, value: bytes | None) -> Entry:
    credential = msgpack.packb(author.credential.to_wire())
    key_bytes, body, deleted = key.encode(), value or b"", value is None
    sizes = len(key_bytes), len(body), len(credential)
    writer = author.identity.public_key
    head = _HEAD.pack(_FORMAT, scope, writer, version.epoch, version.counter, deleted, *sizes)
    signed = head + key_bytes + body + credential
    encoded = signed + author.identity.sign(_DOMAIN + signed)
    return Entry(
        author.peer, scope, key, version, body, deleted, encoded, digest_of(encoded), len(credential)
    )


def decode_entry_untrusted(encoded: bytes) -> Entry:
    """The entry in `encoded`. Neither its signature nor its credential has been checked.

    Raises:
      UnknownFormat: it is in another version's format.
      BadEntry: it is no entry, or not all of one.
    """
    if not encoded:
        raise BadEntry("an empty entry")
    if encoded[0] != _FORMAT:
        raise UnknownFormat(f"an entry in format {encoded[0]}; this version knows {_FORMAT}")
    if len(encoded) < _HEAD.size:
        raise BadEntry(f"an entry of only {len(encoded)} bytes")
    _, scope, writer, epoch, counter, deleted, *sizes = _HEAD.unpack_from(encoded)
    if len(encoded) != _HEAD.size + sum(sizes) + SIGNATURE_SIZE:
        raise BadEntry(f"an entry whose lengths do not add up to its {len(encoded)} bytes")
    if scope not in (Scope.OWN, Scope.SWARM):
        raise BadEntry(f"an entry of scope {scope}")
    version = Version(epoch, counter)
    if scope == Scope.SWARM and version != shared_version(epoch, writer):
        raise BadEntry("a swarm-wide entry whose version names another writer")
    key_size, value_size, credential_size = sizes
    if credential_size > CREDENTIAL_SIZE_MAX:
        raise BadEntry(f"an entry with a credential of {credential_size} bytes")
    if deleted and value_size:
        raise BadEntry("a deleted entry with a value")
    key_end = _HEAD.size + key_size
    key = _key(encoded[_HEAD.size : key_end])
    value = encoded[key_end : key_end + value_size]
    return Entry(
        peer_id_of(writer),
        Scope(scope),
        key,
        version,
        value,
        deleted,
        encoded,
        digest_of(encoded),
        credential_size,
    )


def _key(encoded: bytes) -> str:
    try:
        key = encoded.decode()
    except UnicodeDecodeError as error:
        raise BadEntry("an entry whose key is not UTF-8") from error
    if not key:
        raise BadEntry("an entry without a key")
    return key
