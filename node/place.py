"""A home's place in a swarm: founded, joined once, and remembered ever after.

    start in an empty home        found: new founder key, new secret, first member
    join in an empty home         join: the token's invite signs for this node's key
    start or join in a home       the place it has; another swarm's token is refused

The files are private (`p2p/private_file.py`), and nothing here asks the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from node.errors import ForeignSwarm, HomeDamaged, WrongUse
from node.home import Home, write_private
from p2p.credential import Grant, Invite, Role, require_unexpired
from p2p.errors import BadMembership, NotAdmitted
from p2p.identity import Identity
from p2p.membership import SwarmMembership, found_swarm, join_swarm
from p2p.peer import PeerAddress, peer_id_of
from p2p.private_file import read_private_file
from p2p.token import Token

SWARM_NAME_DEFAULT = "home"


def node_identity(home: Home) -> Identity:
    """The key of the node in `home`, made on first use.

    Raises:
      BadIdentity: there is a key file that cannot be used.
    """
    return _load_or_generate(home.node_key)


def load_place(home: Home) -> SwarmMembership | None:
    """The place that `home` remembers, or None.

    Raises:
      HomeDamaged: its file cannot be read or is damaged.
    """
    try:
        return SwarmMembership.decode(read_private_file(home.swarm_file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeDamaged(f"cannot read {home.swarm_file}: {error.strerror}") from error
    except BadMembership as error:
        raise HomeDamaged(f"{home.swarm_file}: {error}; move it away and join again with a token") from error


def found(home: Home, swarm: str = SWARM_NAME_DEFAULT) -> SwarmMembership:
    """The place of the first node of a new swarm, kept in `home`.

    Raises:
      BadToken: no swarm may have that name.
      BadIdentity, NodeError: a file could not be read or written.
    """
    place = found_swarm(swarm, _load_or_generate(home.founder_key), node_identity(home).peer_id)
    write_private(home.swarm_file, place.encode())
    return place


def join(home: Home, token: Token, unix_time: float) -> SwarmMembership:
    """The place that `token` gives the node in `home`, kept there. Joining again changes nothing.

    A newer token of the same swarm renews the credential, which is how a place whose
    invite has expired is mended. A place that may invite others is not given up for less.

    Raises:
      ForeignSwarm: the home belongs to another swarm.
      BadToken: the token has expired.
      BadIdentity, HomeDamaged, NodeError: a file could not be read or written.
    """
    place = load_place(home)
    if place is not None and not place.is_of_same_swarm(token):
        raise ForeignSwarm(
            f"{home.path} belongs to swarm {_describe(place.swarm, place.founder_public_key)}, the token to "
            f"{_describe(token.swarm, token.invite.founder_public_key)}; use another --home "
            f"(deleting {home.path} gives its swarm up for good)"
        )
    token.require_unexpired(unix_time)
    if place is not None and _is_worth_more(place, token, unix_time):
        return place
    place = join_swarm(token, node_identity(home).peer_id)
    write_private(home.swarm_file, place.encode())
    return place


def new_invite(home: Home, place: SwarmMembership, role: Role, expires_at: int) -> Invite:
    """A fresh invite to the swarm of `place`, from the founder key if it is here, else from an admin's.

    Raises:
      WrongUse: this node may invite nobody.
      NotAdmitted: the invite this node has does not reach that far.
    """
    key = Identity.generate()
    if home.founder_key.exists():
        founder = Identity.load(home.founder_key)
        # A home that lost its place and joined another swarm still has the key of its first one.
        if founder.public_key == place.founder_public_key:
            return Invite.issue(founder, key, role, expires_at)
    if place.invite is not None:
        return place.invite.delegate(key, role, expires_at)
    raise WrongUse(may_not_invite(place))


def may_not_invite(place: SwarmMembership) -> str:
    """Why a node that only joined has no token to show."""
    return (
        f"this node joined swarm {place.swarm} and may not invite others; "
        "run this on the machine that founded it, or join with an invite of role admin"
    )


def shareable(addresses: Sequence[PeerAddress]) -> list[PeerAddress]:
    """Of a node's own addresses those worth telling others: loopback only if there is nothing else."""
    outside = [address for address in addresses if not is_loopback(address.multiaddr)]
    return outside or list(addresses)


def _is_worth_more(place: SwarmMembership, token: Token, unix_time: float) -> bool:
    """Whether `place` lets its node invite others, and would not after joining with `token`."""
    if place.invite is None:
        return False
    grant = place.invite.grant()
    # The founder shows an invite for others: it is not its own right to be here, and never ends.
    is_founder = grant.role != "admin"
    return is_founder or (token.facts.grant.role != "admin" and _holds(grant, unix_time))


def _holds(grant: Grant, unix_time: float) -> bool:
    try:
        require_unexpired(grant, unix_time)
    except NotAdmitted:
        return False
    return True


def is_loopback(multiaddr: str) -> bool:
    """Whether only this machine can dial it."""
    return multiaddr.startswith(("/ip4/127.", "/ip6/::1/"))


def _describe(swarm: str, founder_public_key: bytes) -> str:
    """A swarm so that two of one name can be told apart."""
    return f"{swarm!r} (founder ...{peer_id_of(founder_public_key)[-6:]})"


def _load_or_generate(path: Path) -> Identity:
    try:
        return Identity.load(path)
    except FileNotFoundError:
        identity = Identity.generate()
        identity.save(path)
        return identity
