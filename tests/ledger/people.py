"""Members of one swarm, for tests: keys, and the right to write entries."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ledger.entry import Author
from ledger.ledger import Ledger
from ledger.proof import Proofs
from ledger.state import LedgerLimits, LedgerState
from p2p.credential import NEVER, Invite, Role
from p2p.identity import Identity
from p2p.peer import PeerId

FOUNDER = Identity(bytes([200]) * 32)
STRANGER = Identity(bytes([201]) * 32)
"""Founder of another swarm."""


@cache
def author(number: int, role: Role = "worker", founder: Identity = FOUNDER, invite: int = 210) -> Author:
    """Member `number`; its invite is the founder's, with the key of that number."""
    identity = Identity(bytes([number]) * 32)
    issued = Invite.issue(founder, Identity(bytes([invite]) * 32), role, NEVER)
    return Author(identity, issued.credential_for(identity.peer_id))


def state_of(me: PeerId, limits: LedgerLimits | None = None) -> LedgerState:
    """An empty replica of the swarm."""
    return LedgerState(me, Proofs(FOUNDER.public_key), limits)


def open_ledger(
    who: Author, path: Path | None = None, *, boot_id: str = "boot", limits: LedgerLimits | None = None
) -> Ledger:
    """The ledger of a member."""
    return Ledger.open(path, who, FOUNDER.public_key, boot_id, limits)
