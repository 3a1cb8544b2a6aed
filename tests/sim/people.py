"""Members of a simulated swarm: keys from numbers, and proofs that are checked once for all.

A thousand replicas that check a thousand signatures each would spend minutes on it, and
always find the same. So they share one memory of what was decoded and proved: what a
replica concludes is unchanged, for it depends on the bytes alone.
"""

from __future__ import annotations

from functools import cache

from ledger.entry import Author, Entry
from ledger.proof import Proofs
from p2p.credential import NEVER, Invite, Role
from p2p.identity import Identity

FOUNDER = Identity(bytes([7]) * 32)

ADMINS = 3
"""The first so many members may write what the whole swarm follows."""

_REMEMBERED_MAX = 100_000
"""Entries: twenty times what a thousand nodes say."""


@cache
def _invite(role: Role) -> Invite:
    key = Identity(bytes([8 if role == "admin" else 9]) * 32)
    return Invite.issue(FOUNDER, key, role, NEVER)


@cache
def member(number: int) -> Author:
    """Member `number` of the swarm, the same in every process."""
    identity = Identity(number.to_bytes(32, "big"))
    invite = _invite("admin" if number < ADMINS else "worker")
    return Author(identity, invite.credential_for(identity.peer_id))


class SharedProofs(Proofs):
    """Proofs that remember entries by their bytes."""

    def __init__(self) -> None:
        super().__init__(FOUNDER.public_key)
        self._decoded: dict[bytes, Entry] = {}
        self._signed: dict[bytes, bool] = {}

    def decode(self, encoded: bytes) -> Entry:
        entry = self._decoded.get(encoded)
        if entry is None:
            if len(self._decoded) >= _REMEMBERED_MAX:
                self._decoded.clear()
            entry = self._decoded[encoded] = super().decode(encoded)
        return entry

    def forget(self) -> None:
        self._decoded.clear()
        self._signed.clear()

    def is_signed(self, entry: Entry) -> bool:
        known = self._signed.get(entry.digest)
        if known is None:
            if len(self._signed) >= _REMEMBERED_MAX:
                self._signed.clear()
            known = self._signed[entry.digest] = super().is_signed(entry)
        return known
