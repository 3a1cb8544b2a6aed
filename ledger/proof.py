"""What an entry proves of its writer: that it signed, and what it may do in this swarm.

A node signs many entries with one credential, so what a credential gives is
remembered; signatures are checked each time, because each entry comes once.

No expiry is looked at: what was written by right stays written, and two replicas must
not differ because they asked at different times. Who has no right any more finds no
door through which to bring something new (`p2p/admission.py`).
"""

from __future__ import annotations

from collections import OrderedDict

from ledger.entry import Entry, decode_entry_untrusted
from p2p.credential import Grant
from p2p.errors import NotAdmitted
from p2p.peer import PeerId

GRANTS_MAX = 4096
"""Credentials remembered: as many as there may be owners (`state.py`). A forgotten one is checked again."""


class Proofs:
    """Checks entries of one swarm."""

    def __init__(self, founder_public_key: bytes) -> None:
        self._founder_public_key = founder_public_key
        self._grants: OrderedDict[tuple[PeerId, bytes], Grant | None] = OrderedDict()

    def decode(self, encoded: bytes) -> Entry:
        """The entry in `encoded`, unproved.

        Raises:
          BadEntry: it is none; its leaf UnknownFormat: it is another version's.
        """
        return decode_entry_untrusted(encoded)

    def is_signed(self, entry: Entry) -> bool:
        """Whether the writer wrote these very bytes."""
        return entry.is_signed_by_writer()

    def grant(self, entry: Entry) -> Grant | None:
        """What the writer of `entry` may do in this swarm; None: it is no member."""
        known = entry.writer, entry.credential_bytes
        if known in self._grants:
            self._grants.move_to_end(known)
            return self._grants[known]
        grant = self._verified(entry)
        self._grants[known] = grant
        if len(self._grants) > GRANTS_MAX:
            self._grants.popitem(last=False)
        return grant

    def _verified(self, entry: Entry) -> Grant | None:
        try:
            return entry.credential().verify_member(self._founder_public_key, entry.writer)
        except NotAdmitted:
            return None
