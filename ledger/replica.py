"""One replica of the ledger and the one writer in it: what enters, and what we say ourselves.

    receive(encoded) --> state: is it genuine, newer, and does it fit?
                          +--> our own, and we do not remember it: overrule it
    put, delete      --> sign it as our next version --> state

What we say is what was put in this life or found on our own disk. An entry of our own
key that is neither was written before a disk was lost or rolled back, and is overruled:
all we say is written again under an epoch beyond it, with a floor below which everything
else of ours falls (`floor.py`). The same move leaves our deletions behind.

Or it is written by a second process that has our key, because a home was copied. Each
process says a boot id that is new at every start, and who overrules another one's names
the id it met. So an entry of our own that names the id of *this* run, and that we do not
remember, was written by somebody who is alive beside us: one who met us, or who resumed
from a copy of our memory. That is proof, which no third party can make up.

Decides only. `ledger.py` keeps it on disk and tells who watches it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.entry import SWARM, Author, Entry, sign_entry, sign_shared_entry
from ledger.errors import BadEntry, BadRecord, NotAnAdmin, OverQuota, UnknownFormat
from ledger.floor import floor_key, floor_value, is_floor
from ledger.proof import Proofs
from ledger.record_fields import RecordFields, decode_value_untrusted, encode_value
from ledger.state import Applied, LedgerLimits, LedgerState, RefusalReason, Refused
from ledger.version import VERSION_ZERO
from p2p.peer import PeerId

BOOT_KEY = "boot"
"""Where each process says which one it is."""

DELETIONS_MAX = 16
"""Kept before they are left behind, if that many keys hold: to write n keys again is as dear as n deletions
were, so each deletion costs two entries in the end, and a node's share of the ledger is bounded."""

SAID_SHARE = 4
"""What holds may take one part in so many of an owner's room: as much again are deletions, and a peer may
still hold both of a former life of ours, whose floor we have not built yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that came into the state, or left it below a floor."""

    entry: Entry
    is_in: bool
    source: PeerId | None = None
    """Who sent it; None: we wrote it."""


class Replica:
    """All we hold, and all we say. `restore` first, then `begin`, then anything."""

    def __init__(
        self, author: Author, proofs: Proofs, boot_id: str, limits: LedgerLimits | None = None
    ) -> None:
        self._author = author
        self._proofs = proofs
        self._boot_id = boot_id
        self._met_boot_id = ""
        self.state = LedgerState(author.peer, proofs, limits)
        """To read. Changed by this class only."""
        self.refusals: Counter[RefusalReason] = Counter()
        """How much was refused, by reason."""
        self.is_copied = False
        """A second process with our key is alive."""
        self._overhead = len(sign_entry(author, "", VERSION_ZERO, None).encoded)
        """Bytes of an entry of ours besides its key and value."""
        self._said: dict[str, bytes] = {}
        """What holds of all we ever put, by key."""
        self._version = VERSION_ZERO
        self._changes: list[Change] = []

    @property
    def me(self) -> PeerId:
        """Whose entries `put` and `delete` write."""
        return self._author.peer

    def restore(self, encoded: Iterable[bytes]) -> list[str]:
        """Take in what our own disk kept. Returns what was left out, for the log."""
        left_out: list[str] = []
        for each in encoded:
            try:
                outcome = self.state.apply(self._proofs.decode(each))
            except BadEntry as error:
                left_out.append(str(error))
                continue
            if isinstance(outcome, Refused):
                left_out.append(outcome.reason)
        for entry in self.state.entries_of(self.me):
            self._version = max(self._version, entry.version)
            if not entry.deleted and not is_floor(entry):
                self._said[entry.key] = entry.value
        return left_out

    def begin(self) -> None:
        """Say which process this is."""
        self.put(BOOT_KEY, self._boot_value())

    def snapshot(self) -> list[bytes]:
        """All we hold, as it travels: what `restore` takes."""
        return [entry.encoded for entry in self.state.entries()]

    def put(self, key: str, value: bytes) -> None:
        """Say that our `key` has `value`, a msgpack map. Nothing happens if that stands there already.

        Raises:
          OverQuota: it is too large, or we wrote too much.
        """
        if self._said.get(key) != value:
            self._require_room(key, value)
            self._write(key, value)
            self._said[key] = value

    def delete(self, key: str) -> None:
        """Say that our `key` has no value any more. Nothing happens if it has none."""
        if key not in self._said:
            return
        self._write(key, None)
        del self._said[key]
        deletions = sum(entry.deleted for entry in self.state.entries_of(self.me))
        if deletions > max(DELETIONS_MAX, len(self._said)):
            self._begin_epoch()

    def retire(self, key: str, value: bytes) -> None:
        """Say `key` and nothing else any more: all we said before is left behind at once."""
        self._said = {key: value}
        self._begin_epoch()

    def put_shared(self, key: str, value: bytes | None) -> None:
        """Say that the swarm's `key` has `value`; None deletes it. Nothing happens if that holds already.

        Raises:
          NotAnAdmin: this node may not decide for the swarm, whatever holds.
          OverQuota: it does not fit.
        """
        held = self.state.get(SWARM, key)
        lamport = held.version.epoch + 1 if held is not None else 1
        entry = sign_shared_entry(self._author, key, lamport, value)
        grant = self._proofs.grant(entry)
        if grant is None or grant.role != "admin":
            raise NotAnAdmin("only the swarm's founder and its admins decide for the whole swarm")
        if (None if held is None or held.deleted else held.value) != value:
            self._take_in(entry)

    def receive(self, encoded: bytes, source: PeerId | None = None) -> Applied | Refused:
        """Take in an entry that `source` sent. One of our own that we do not remember is overruled.

        Raises:
          BadEntry: it is none; the peer broke the protocol.
        """
        try:
            outcome = self.state.apply(self._proofs.decode(encoded))
        except UnknownFormat:
            outcome = Refused("unknown_format")
        match outcome:
            case Refused(reason):
                self.refusals[reason] += 1
            case Applied(entry):
                self._note(outcome, source)
                if entry.owner == self.me:
                    self._overrule(entry)
        return outcome

    def refuse(self, reason: RefusalReason) -> Refused:
        """Count what was refused and is no entry."""
        self.refusals[reason] += 1
        return Refused(reason)

    def take_changes(self) -> list[Change]:
        """What came in and what left since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def _require_room(self, key: str, value: bytes) -> None:
        """Keep to our share, so that there is always room to write all of it again.

        Raises:
          OverQuota: it would be more.
        """
        limits, said = self.state.limits, {**self._said, key: value}
        size = sum(self._overhead + len(name.encode()) + len(each) for name, each in said.items())
        is_too_much = len(said) * SAID_SHARE > limits.owner_entries_max
        if is_too_much or size * SAID_SHARE > limits.owner_size_max:
            raise OverQuota(f"{key!r} cannot be written to the ledger: this node says too much already")

    def _write(self, key: str, value: bytes | None) -> None:
        version = self._version.next()
        self._take_in(sign_entry(self._author, key, version, value))
        self._version = version

    def _take_in(self, entry: Entry) -> None:
        match self.state.apply(entry):
            case Refused(reason):
                words = reason.replace("_", " ")
                raise OverQuota(f"{entry.key!r} cannot be written to the ledger: {words}")
            case Applied() as applied:
                self._note(applied, None)

    def _note(self, applied: Applied, source: PeerId | None) -> None:
        self._changes.append(Change(applied.entry, is_in=True, source=source))
        self._changes += (Change(entry, is_in=False, source=source) for entry in applied.dropped)

    def _overrule(self, entry: Entry) -> None:
        if self.is_copied:
            return  # Said, and heard: each of the two stops now.
        if entry.key == BOOT_KEY:
            self._meet(entry)
        self._version = max(self._version, entry.version)
        self._begin_epoch()

    def _meet(self, entry: Entry) -> None:
        """Another process wrote with our key: a former one, or one that knows of us, or was us."""
        try:
            fields = RecordFields(decode_value_untrusted(entry.value))
            boot_id, met = fields.text("id"), fields.text("met", "")
        except BadRecord:
            return
        self.is_copied |= self._boot_id in (boot_id, met)
        # It must learn of us too, to stop as well.
        self._met_boot_id = boot_id
        self._said[BOOT_KEY] = self._boot_value()

    def _begin_epoch(self) -> None:
        """Write what we say again, and leave everything else of ours behind."""
        self._version = self._version.epoch_beyond()
        for key in sorted(self._said):
            self._write(key, self._said[key])
        self._write(floor_key(self._version.epoch), floor_value(len(self._said)))

    def _boot_value(self) -> bytes:
        return encode_value({"id": self._boot_id, "met": self._met_boot_id})
