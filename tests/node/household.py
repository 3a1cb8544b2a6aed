"""The ledger of a household, and entries that do not belong into it, for tests of those who look at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.entry import SWARM, Author, Entry, sign_entry, sign_shared_entry
from ledger.proof import Proofs
from ledger.record_fields import encode_value
from ledger.records import NODE_KEY, ModelName, ModelRecord, NodeRecord, encode_record, key_of
from ledger.state import LedgerState
from ledger.store import LogRow
from ledger.version import Version
from p2p.credential import Role
from p2p.identity import Identity
from tests.p2p.people import ALICE, BOB, CAROL, DAVE, FOUNDER, invite


def author(of: Identity, role: Role = "worker") -> Author:
    return Author(of, invite(role).credential_for(of.peer_id))


def says(of: Identity, key: str, value: Mapping[str, Any] | None, counter: int = 1) -> Entry:
    encoded = None if value is None else encode_value(value)
    return sign_entry(author(of), key, Version(1, counter), encoded)


def node(of: Identity, name: str) -> Entry:
    return says(of, NODE_KEY, encode_record(NodeRecord(name, "worker", "0.1.0", hardware={"cores": 8})))


def model(of: Identity, name: str) -> Entry:
    record = ModelRecord(ModelName(name), "loaded", ("chat",), 4096, 12_000_000)
    return says(of, key_of(record), encode_record(record), counter=2)


def alias(of: Identity = ALICE, role: Role = "admin") -> Entry:
    return sign_shared_entry(author(of, role), "alias/gpt-4", 7, encode_value({"model": "tiny"}))


HOUSEHOLD = [
    node(ALICE, "attic"),
    model(ALICE, "tiny"),
    says(ALICE, "model/old", None, 3),
    node(BOB, "cellar"),
    alias(),
]
HOUSEHOLD_LOG = [
    LogRow(1_700_000_000.0, "wrote", ALICE.peer_id, "node", 1, 1, "", ""),
    LogRow(1_700_000_001.0, "took", BOB.peer_id, "node", 1, 1, BOB.peer_id, ""),
    LogRow(1_700_000_002.0, "refused", CAROL.peer_id, "model/x", 1, 9, BOB.peer_id, "bad_signature"),
    LogRow(1_700_000_003.0, "took", SWARM, "alias/gpt-4", 7, 2**63, BOB.peer_id, ""),
]


def altered(entry: Entry) -> bytes:
    """`entry` with another name in it, and the signature it had."""
    assert b"cellar" in entry.encoded
    return entry.encoded.replace(b"cellar", b"callar")


def of_another_swarm(key: str = "node") -> Entry:
    credential = invite(founder=DAVE).credential_for(DAVE.peer_id)
    return sign_entry(Author(DAVE, credential), key, Version(1, 1), b"\x80")


def root_of(entries: Iterable[Entry]) -> str:
    """The root of a node that took `entries` in."""
    state = LedgerState(BOB.peer_id, Proofs(FOUNDER.public_key))
    for entry in entries:
        state.apply(entry)
    return state.root_digest().hex()
