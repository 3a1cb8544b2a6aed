"""The right to be in a swarm: a chain of signed links from the founder's key to one peer.

    founder's key --signs--> link 1 --signs--> link 2 ... --signs--> credential: this peer's id
                             (an invite: public key, role, expiry)

Whoever holds the seed of an invite's key can sign a credential for itself, or a
further, narrower link for somebody else, without asking anyone and offline. A
link never widens its parent: not its role, not its expiry. The id of a link is
derived from its public key, so it can be named later, to revoke all below it.

An expiry is the only time that two machines' wall clocks are compared, with
some leeway. It is looked at when a connection begins (`hello`): a member whose
invite has expired keeps the connections it has and gets no new ones, so an
invite with an expiry lends a place, and one without gives it.

A credential is no secret: it names the peer id that Noise has proved, so it is
worth nothing to anybody else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, NewType, TypeAlias

from p2p.errors import NotAdmitted
from p2p.identity import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Identity, verify
from p2p.peer import PeerId, public_key_of

Role: TypeAlias = Literal["client", "worker", "admin"]
"""`client`: may ask. `worker`: also serves. `admin`: also decides for the whole swarm."""

InviteId = NewType("InviteId", str)
"""16 hex digits: the start of the sha256 of a link's public key."""

# Append only: the numbers are signed and on the wire. Each role may do what the ones before it may.
_NUMBER_OF_ROLE: Final[dict[Role, int]] = {"client": 1, "worker": 2, "admin": 3}
_ROLE_OF_NUMBER: Final[dict[int, Role]] = {number: role for role, number in _NUMBER_OF_ROLE.items()}

NEVER = 0
"""As `expires_at`: the link does not expire."""

EXPIRY_LEEWAY = 300.0
"""Seconds. Home machines without a time server drift by seconds a day; five minutes is Kerberos's choice."""

LINK_COUNT_MAX = 4
"""The founder invites an admin, who invites a friend, who brings a guest; and one to spare."""

_EXPIRES_AT_MAX = 2**63 - 1

# What a signature is for comes first in the signed bytes, so none can be shown for another purpose.
# All that follows has a fixed length: two different contents never make the same bytes.
_LINK_PURPOSE = b"localai-node/invite-link/1\0"
_CREDENTIAL_PURPOSE = b"localai-node/credential/1\0"


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain: the key before it says what the holder of `public_key` may do."""

    public_key: bytes
    role: Role
    expires_at: int
    """Unix time in seconds, or `NEVER`."""
    signature: bytes = field(repr=False)

    @property
    def id(self) -> InviteId:
        return InviteId(sha256(self.public_key).hexdigest()[:16])

    def to_wire(self) -> list[Any]:
        return [self.public_key, _NUMBER_OF_ROLE[self.role], self.expires_at, self.signature]

    @classmethod
    def from_wire_untrusted(cls, value: object) -> Link:
        """The link in `value`, not yet verified.

        Raises:
          NotAdmitted: and nothing else, whatever it is.
        """
        match value:
            case [bytes(public_key), int(number), int(expires_at), bytes(signature)] if (
                len(public_key) == PUBLIC_KEY_SIZE
                and len(signature) == SIGNATURE_SIZE
                and 0 <= expires_at <= _EXPIRES_AT_MAX
            ):
                role = _ROLE_OF_NUMBER.get(number)
                if role is None:
                    raise NotAdmitted(
                        f"the invite gives role number {number}, which this version does not know"
                    )
                return cls(public_key, role, expires_at, signature)
        raise NotAdmitted("the invite is malformed")


def link_bytes(founder_public_key: bytes, public_key: bytes, role: Role, expires_at: int) -> bytes:
    """What the signature of a link covers. The founder's key ties it to one swarm."""
    terms = struct.pack("!BQ", _NUMBER_OF_ROLE[role], expires_at)
    return _LINK_PURPOSE + founder_public_key + public_key + terms


def credential_bytes(founder_public_key: bytes, peer: PeerId) -> bytes:
    """What the signature of a credential covers."""
    return _CREDENTIAL_PURPOSE + founder_public_key + public_key_of(peer)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a valid chain gives."""

    role: Role
    invites: tuple[InviteId, ...]
    expires_at: int
    """Unix time in seconds, or `NEVER`."""


def verify_links(links: Sequence[Link], founder_public_key: bytes) -> Grant:
    """What `links` give, whether or not they have expired.

    Raises:
      NotAdmitted: the chain does not begin with the founder, is broken, or widens on its way.
    """
    if not 1 <= len(links) <= LINK_COUNT_MAX:
        raise NotAdmitted(f"the invite has {len(links)} links, not 1 to {LINK_COUNT_MAX}")
    signer = founder_public_key
    parent: Link | None = None
    for link in links:
        signed = link_bytes(founder_public_key, link.public_key, link.role, link.expires_at)
        if not verify(signer, link.signature, signed):
            raise NotAdmitted("the invite is not from this swarm's founder, or was altered")
        if parent is not None and _widens(link, parent):
            raise NotAdmitted(f"invite {link.id} gives more than invite {parent.id}, which it comes from")
        signer, parent = link.public_key, link
    return Grant(links[-1].role, tuple(link.id for link in links), links[-1].expires_at)


def require_unexpired(grant: Grant, unix_time: float) -> None:
    """Nothing, if the grant still holds by the caller's clock.

    Raises:
      NotAdmitted: it has expired, by more than the leeway.
    """
    if grant.expires_at != NEVER and unix_time > grant.expires_at + EXPIRY_LEEWAY:
        minutes = int(unix_time - grant.expires_at) // 60
        raise NotAdmitted(
            f"the invite expired {minutes // 1440} d {minutes // 60 % 24} h {minutes % 60} min ago"
        )


@dataclass(frozen=True, slots=True)
class Credential:
    """A chain of links, and the last key's word for one peer."""

    links: tuple[Link, ...]
    signature: bytes = field(repr=False)

    def verify(self, founder_public_key: bytes, peer: PeerId, unix_time: float) -> Grant:
        """What `peer` may do in the founder's swarm now.

        Raises:
          NotAdmitted: nothing at all; the text says why, for the person at the other end.
        """
        grant = self.verify_member(founder_public_key, peer)
        require_unexpired(grant, unix_time)
        return grant

    def verify_member(self, founder_public_key: bytes, peer: PeerId) -> Grant:
        """What `peer` may do, or might before its invite expired.

        Raises:
          NotAdmitted: it never was a member of the founder's swarm.
        """
        grant = verify_links(self.links, founder_public_key)
        if not verify(self.links[-1].public_key, self.signature, credential_bytes(founder_public_key, peer)):
            raise NotAdmitted("the credential was made for another node, or was altered")
        return grant

    def to_wire(self) -> dict[str, Any]:
        return {"links": [link.to_wire() for link in self.links], "signature": self.signature}

    @classmethod
    def from_wire_untrusted(cls, value: object) -> Credential:
        """The credential in `value`, not yet verified.

        Raises:
          NotAdmitted: and nothing else, whatever it is.
        """
        match value:
            case {"links": [*links], "signature": bytes(signature)} if (
                1 <= len(links) <= LINK_COUNT_MAX and len(signature) == SIGNATURE_SIZE
            ):
                return cls(tuple(Link.from_wire_untrusted(link) for link in links), signature)
        raise NotAdmitted("the credential is malformed")


@dataclass(frozen=True, slots=True)
class Invite:
    """A chain of links together with the seed of its last key: who holds it can let others in."""

    founder_public_key: bytes
    key: Identity
    links: tuple[Link, ...]

    @classmethod
    def issue(cls, founder: Identity, key: Identity, role: Role, expires_at: int) -> Invite:
        """A first link: the founder invites whoever gets the seed of `key`."""
        return cls(founder.public_key, key, (_sign_link(founder, founder.public_key, key, role, expires_at),))

    def delegate(self, key: Identity, role: Role, expires_at: int) -> Invite:
        """This chain and one more link, for whoever gets the seed of `key`.

        Raises:
          NotAdmitted: it would give more than this invite does, or the chain would be too long.
        """
        link = _sign_link(self.key, self.founder_public_key, key, role, expires_at)
        links = (*self.links, link)
        verify_links(links, self.founder_public_key)
        return Invite(self.founder_public_key, key, links)

    def credential_for(self, peer: PeerId) -> Credential:
        """The credential of `peer`, which holds this invite."""
        return Credential(self.links, self.key.sign(credential_bytes(self.founder_public_key, peer)))

    def grant(self) -> Grant:
        """What it gives, whether or not it has expired.

        Raises:
          NotAdmitted: the links do not hold.
        """
        grant = verify_links(self.links, self.founder_public_key)
        if self.links[-1].public_key != self.key.public_key:
            raise NotAdmitted("the seed does not belong to the invite's last link")
        return grant


def _sign_link(
    signer: Identity, founder_public_key: bytes, key: Identity, role: Role, expires_at: int
) -> Link:
    signed = link_bytes(founder_public_key, key.public_key, role, expires_at)
    return Link(key.public_key, role, expires_at, signer.sign(signed))


def _widens(link: Link, parent: Link) -> bool:
    if _NUMBER_OF_ROLE[link.role] > _NUMBER_OF_ROLE[parent.role]:
        return True
    return parent.expires_at != NEVER and (link.expires_at == NEVER or link.expires_at > parent.expires_at)
