"""What stands in a ledger's file, for a person: who is who, and whether it all proves itself.

Reads entries as they were stored and trusts none of them: `verify` asks of each what a
ledger asks before it takes it, by the same code. Names are what nodes call themselves.

Opens no file and prints nothing: `commands/ledger.py` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ledger.entry import SWARM, Entry, Place, decode_entry_untrusted
from ledger.errors import BadEntry, BadRecord
from ledger.proof import Proofs
from ledger.record_fields import decode_value_untrusted
from ledger.records import LEAVE_KEY, NODE_KEY
from ledger.state import EVERYDAY, LedgerLimits, LedgerState, Refused
from node.errors import WrongUse
from node.status_table import node_names
from p2p.credential import NEVER, Grant, InviteId
from p2p.peer import PeerId

SWARM_NAME = "swarm"
"""What the owner of swarm-wide keys is called."""

_FORMER_FORMAT = 1
"""The first byte of entries without a credential, which the first release wrote. No ledger takes them any
more, and the file keeps them until something else stands in their places."""

_NAMES_TOLD_MAX = 12
"""Names in one line of an error: a household's machines."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What could be read of a file's entries."""

    entries: list[Entry]
    """One for each place, sorted by owner and key. Not proved."""
    names: Mapping[PeerId, str]
    """What owners call themselves."""
    labels: Mapping[PeerId, str]
    """What to call them on a terminal; no two are called the same."""
    unreadable: int
    """How many entries are none, or another version's."""


def read_contents(encodeds: Iterable[bytes]) -> Contents:
    """The entries in `encodeds`. Of two in one place the one that a ledger would keep."""
    held: dict[Place, Entry] = {}
    unreadable = 0
    for encoded in encodeds:
        try:
            entry = decode_entry_untrusted(encoded)
        except BadEntry:
            unreadable += 1
            continue
        rival = held.get(entry.place)
        if rival is None or entry.rank > rival.rank:
            held[entry.place] = entry
    entries = [held[place] for place in sorted(held)]
    names = _names(entries)
    return Contents(entries, names, _labels(names), unreadable)


def escaped(text: str) -> str:
    """`text` with everything a terminal would obey spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def label_of(peer: str, labels: Mapping[PeerId, str]) -> str:
    """What to call `peer`, which may be nobody we know, by no more than fits a column."""
    return labels.get(PeerId(peer)) or _end_of(peer)


def find_owner(text: str, contents: Contents) -> PeerId:
    """Whom a person means by `text`: a name, an id, or the end of one, with dots before it or without.

    Raises:
      WrongUse: nobody, or more than one.
    """
    owners = {entry.owner for entry in contents.entries}
    labels = {owner: label_of(owner, contents.labels) for owner in owners}
    matches = {owner for owner in owners if text in (owner, labels[owner], contents.names.get(owner))}
    if not matches:
        end = text.rpartition("...")[2]
        matches = {owner for owner in owners if end and owner.endswith(end)}
    told = sorted(labels[owner] for owner in matches or owners)
    if len(told) > _NAMES_TOLD_MAX:
        told[_NAMES_TOLD_MAX:] = [f"{len(told) - _NAMES_TOLD_MAX} more"]
    if not matches:
        raise WrongUse(f"nobody in this ledger is {text!r}; there are: {', '.join(told) or 'none'}")
    if len(matches) > 1:
        raise WrongUse(f"{text!r} may be any of {', '.join(told)}: give more of the id")
    return matches.pop()


@dataclass(frozen=True, slots=True)
class Wrong:
    """An entry that no ledger would take."""

    owner: PeerId | None
    """None: it cannot be read."""
    key: str
    reason: str


@dataclass(slots=True)
class Findings:
    """What `verify` found."""

    is_membership_proved: bool
    """False: the founder's key is not known here, so anybody may have written what is signed."""
    root_digest: bytes = b""
    """Equal on two machines if and only if what stands in their ledgers is the same."""
    entries: int = 0
    deletions: int = 0
    owners: int = 0
    size_bytes: int = 0
    superseded: int = 0
    """Genuine, and something newer stands in their place."""
    of_former_format: int = 0
    wrong: list[Wrong] = field(default_factory=list)


def verify(encodeds: Sequence[bytes], founder_public_key: bytes | None) -> Findings:
    """Ask of each entry what a ledger asks: format, signature, credential, sizes, room."""
    if founder_public_key is None:
        proofs: Proofs = _SignaturesOnly()
        limits = LedgerLimits()
        # Nobody's invite is known, and all of them together are not one.
        limits = replace(limits, invite_owners_max=limits.owners_max, invite_size_max=limits.size_max)
    else:
        proofs, limits = Proofs(founder_public_key), LedgerLimits()
    state = LedgerState(SWARM, proofs, limits)
    findings = Findings(is_membership_proved=founder_public_key is not None)
    for number, encoded in enumerate(encodeds, 1):
        _judge(encoded, number, state, proofs, findings)
    standing = list(state.entries())
    findings.root_digest = state.root_digest()
    findings.entries = len(standing)
    findings.deletions = sum(entry.deleted for entry in standing)
    findings.owners = len(state.owners())
    findings.size_bytes = state.size
    return findings


def _judge(encoded: bytes, number: int, state: LedgerState, proofs: Proofs, findings: Findings) -> None:
    if encoded[:1] == bytes([_FORMER_FORMAT]):
        findings.of_former_format += 1
        return
    try:
        entry = decode_entry_untrusted(encoded)
    except BadEntry as error:
        findings.wrong.append(Wrong(None, f"entry {number} of the file", str(error)))
        return
    outcome = state.apply(entry)
    if not isinstance(outcome, Refused):
        findings.superseded += len(outcome.dropped) + (outcome.previous is not None)
        return
    reason = outcome.reason
    if reason in EVERYDAY:
        # That came first; it still has to be somebody's word.
        reason = "not_a_member" if proofs.grant(entry) is None else "bad_signature"
        if reason == "bad_signature" and proofs.is_signed(entry):
            findings.superseded += 1
            return
    findings.wrong.append(Wrong(entry.owner, entry.key, reason.replace("_", " ")))


class _SignaturesOnly(Proofs):
    """Where the founder's key is not known: whoever signed may have been anybody."""

    def __init__(self) -> None:
        super().__init__(b"")

    def grant(self, entry: Entry) -> Grant:
        return Grant("admin", (InviteId("unknown"),), NEVER)


def _names(entries: Iterable[Entry]) -> dict[PeerId, str]:
    """What the nodes call themselves, or did when they left."""
    names = {SWARM: SWARM_NAME}
    for entry in entries:
        if entry.key in (NODE_KEY, LEAVE_KEY) and not entry.deleted:
            try:
                name = decode_value_untrusted(entry.value).get("name")
            except BadRecord:
                continue
            if isinstance(name, str) and name:
                names[entry.owner] = name
    return names


def _labels(names: Mapping[PeerId, str]) -> dict[PeerId, str]:
    labels = node_names([{"id": peer, "name": name} for peer, name in sorted(names.items())])
    return {PeerId(peer): escaped(label) for peer, label in labels.items()}


def _end_of(peer: str) -> str:
    return f"...{peer[-6:]}" if peer else "-"
