"""Keys that are the same in every run, in the order of their peer ids."""

from __future__ import annotations

from hashlib import sha256

from p2p.credential import NEVER, Invite, Role
from p2p.identity import Identity


def identity(name: str) -> Identity:
    return Identity(sha256(name.encode()).digest())


FOUNDER = identity("founder")
ALICE, BOB, CAROL, DAVE = sorted((identity(name) for name in "abcd"), key=lambda someone: someone.peer_id)


def invite(role: Role = "worker", expires_at: int = NEVER, *, founder: Identity = FOUNDER) -> Invite:
    return Invite.issue(founder, identity(f"invite {role} {expires_at}"), role, expires_at)
