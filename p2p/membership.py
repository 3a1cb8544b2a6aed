"""A node's place in one swarm: all it needs to come back after a restart.

    found_swarm ----> SwarmMembership <---- join_swarm (from a token)
                        |  encode / decode: `swarm.msgpack` in the node's home
                        v
                      Swarm

It holds the swarm's secret, so its file is private. An invite is kept only
where it is of use: on the founder, which shows its token again, and with
admins, who invite others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgpack

from p2p.credential import LINK_COUNT_MAX, NEVER, Credential, Invite, Link, Role, verify_links
from p2p.errors import BadAddress, BadMembership, BadPeerId, BadToken, NotAdmitted, NotMsgpack
from p2p.identity import PUBLIC_KEY_SIZE, SEED_SIZE, Identity
from p2p.peer import PeerAddress, PeerId
from p2p.secret import SECRET_SIZE
from p2p.token import ADDRESS_COUNT_MAX, Token, check_swarm_name
from p2p.unpack import unpack_untrusted

_VERSION = 1
"""Of the file's layout. Keys a version does not know are ignored, so only a change of meaning raises it."""


@dataclass(frozen=True, slots=True)
class SwarmMembership:
    """One node's place in one swarm."""

    swarm: str
    secret: bytes = field(repr=False)
    founder_public_key: bytes
    credential: Credential
    bootstrap: tuple[PeerAddress, ...] = ()
    """From the token. Addresses learned since are kept elsewhere: these never expire."""
    invite: Invite | None = None

    @property
    def role(self) -> Role:
        """What this node may do, whether or not its invite has expired.

        Raises:
          NotAdmitted: its credential is not of this swarm.
        """
        return verify_links(self.credential.links, self.founder_public_key).role

    def is_of_same_swarm(self, token: Token) -> bool:
        """Whether `token` is for the swarm this node is in."""
        return self.founder_public_key == token.invite.founder_public_key and self.secret == token.secret

    def token(self, invite: Invite, addresses: Iterable[PeerAddress]) -> Token:
        """A token with `invite`, for machines that find the swarm at `addresses` (the first few)."""
        return Token(self.swarm, self.secret, tuple(addresses)[:ADDRESS_COUNT_MAX], invite)

    def encode(self) -> bytes:
        """The content of the file. A secret: see `private_file.py`."""
        invite = self.invite
        body: bytes = msgpack.packb(
            {
                "version": _VERSION,
                "swarm": self.swarm,
                "secret": self.secret,
                "founder": self.founder_public_key,
                "credential": self.credential.to_wire(),
                "bootstrap": [str(address) for address in self.bootstrap],
                "invite": invite
                and {"seed": invite.key.seed, "links": [link.to_wire() for link in invite.links]},
            }
        )
        return body

    @classmethod
    def decode(cls, data: bytes) -> SwarmMembership:
        """The membership in a file.

        Raises:
          BadMembership: and nothing else; the text says what is wrong.
        """
        try:
            body = unpack_untrusted(data)
        except NotMsgpack as error:
            raise BadMembership("it was cut or altered, or is another program's") from error
        try:
            return cls._from_wire(body)
        except (BadToken, NotAdmitted, BadPeerId, BadAddress) as error:
            raise BadMembership(str(error)) from error

    @classmethod
    def _from_wire(cls, body: object) -> SwarmMembership:
        match body:
            case {"version": int(version)} if version != _VERSION:
                raise BadMembership(f"its layout is version {version}: a newer localai-node wrote it")
            case {
                "version": _,
                "swarm": str(swarm),
                "secret": bytes(secret),
                "founder": bytes(founder),
                "credential": credential,
                "bootstrap": [*bootstrap],
                "invite": invite,
            } if len(secret) == SECRET_SIZE and len(founder) == PUBLIC_KEY_SIZE:
                check_swarm_name(swarm)
                return cls(
                    swarm,
                    secret,
                    founder,
                    Credential.from_wire_untrusted(credential),
                    tuple(PeerAddress.parse(str(address)) for address in bootstrap),
                    _invite_from_wire(invite, founder),
                )
        raise BadMembership("it was cut or altered, or is another program's")


def found_swarm(swarm: str, founder: Identity, peer: PeerId, role: Role = "worker") -> SwarmMembership:
    """A new swarm with the node `peer` as its first member, and an invite of `role` to show to others.

    The founder's node gets its place in the same way as everybody else: by an invite, of role
    admin, whose seed nobody keeps.

    Raises:
      BadToken: no swarm may have that name.
    """
    check_swarm_name(swarm)
    own = Invite.issue(founder, Identity.generate(), "admin", NEVER)
    shown = Invite.issue(founder, Identity.generate(), role, NEVER)
    return SwarmMembership(
        swarm, secrets.token_bytes(SECRET_SIZE), founder.public_key, own.credential_for(peer), invite=shown
    )


def join_swarm(token: Token, peer: PeerId) -> SwarmMembership:
    """The place of the node `peer` in the token's swarm. Asks nobody: the seed signs for it."""
    membership = SwarmMembership(
        token.swarm,
        token.secret,
        token.invite.founder_public_key,
        token.invite.credential_for(peer),
        token.addresses,
    )
    is_admin = token.facts.grant.role == "admin"
    return replace(membership, invite=token.invite) if is_admin else membership


def _invite_from_wire(value: object, founder_public_key: bytes) -> Invite | None:
    match value:
        case None:
            return None
        case {"seed": bytes(seed), "links": [*links]} if (
            len(seed) == SEED_SIZE and len(links) <= LINK_COUNT_MAX
        ):
            invite = Invite(
                founder_public_key, Identity(seed), tuple(Link.from_wire_untrusted(link) for link in links)
            )
            invite.grant()
            return invite
    raise BadMembership("its invite is malformed")
