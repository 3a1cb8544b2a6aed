"""The ledger as the rest of the program holds it: read everything, write your own.

    ledger = Ledger.open(home / "ledger.sqlite", identity)
    nursery.start_soon(ledger.run)                  # keeps the file
    ledger.put_record(NodeRecord(...))              # signed, applied, on its way to all
    with ledger.subscribe() as changes:
        async for place in changes: ...             # ours and everybody's

Reading and writing happen in memory, at once; the file follows a moment later. A
write that got out and was lost here, in a crash, comes back from the peers and is
overruled by what we say now (`receive`).

Entries of others reach `receive` through `replicate.py`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from ledger.changes import Changes
from ledger.entry import Entry, Place, decode_entry_untrusted, sign_entry
from ledger.errors import BadEntry, BadRecord, CopiedIdentity, LedgerError, OverQuota, UnknownFormat
from ledger.record_fields import decode_value_untrusted, encode_value
from ledger.records import NODE_KEY, ModelRecord, NodeRecord, Record, decode_record, encode_record, key_of
from ledger.state import Applied, LedgerLimits, LedgerState, RefusalReason, Refused
from ledger.store import Store, open_store
from ledger.version import VERSION_ZERO
from p2p.identity import Identity
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

EPOCHS_LOST_MAX = 8
"""How often in one run we yield to a write of ours we do not remember. A lost disk costs one epoch;
each further one takes a peer that alone remembers a later life of ours. A copy of our home, alive
and answering, takes as many as we give it."""


class Ledger:
    """One replica, and one writer in it."""

    def __init__(self, identity: Identity, store: Store | None, limits: LedgerLimits | None = None) -> None:
        self._identity = identity
        self._store = store
        self.state = LedgerState(identity.peer_id, limits)
        """For `replicate.py` to compare with others'. Changed by this class only."""
        self.refusals: Counter[RefusalReason] = Counter()
        """How many entries did not enter, by reason."""
        self.unreadable = 0
        """How many records were not what their key promises."""
        self._version = VERSION_ZERO
        self._epochs_lost = 0
        self._subscriptions: list[Changes] = []
        self._records: dict[Place, Record | None] = {}
        """Decoded before; None: it is of no type of ours, or cannot be read."""
        self._unstored: dict[Place, Entry] = {}
        self._failure: LedgerError | None = None
        self._is_due = trio.Event()
        for encoded in store.load() if store is not None else ():
            self._recall(encoded)

    @classmethod
    def open(cls, path: Path | None, identity: Identity, limits: LedgerLimits | None = None) -> Ledger:
        """The ledger kept in `path`; None keeps it in memory only.

        Raises:
          StoreError: the file cannot be used; which leaf says why.
        """
        return cls(identity, open_store(path) if path is not None else None, limits)

    @property
    def me(self) -> PeerId:
        """Whose entries `put` and `delete` write."""
        return self._identity.peer_id

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Say that our `key` has `value`. Nothing happens if that stands there already.

        Raises:
          OverQuota: it is too large, or we wrote too much.
        """
        self._write(key, encode_value(value))

    def put_record(self, record: Record) -> None:
        """`put` of a node or model record of ours.

        Raises:
          OverQuota: it is too large, or we wrote too much.
        """
        self.put(key_of(record), encode_record(record))

    def delete(self, key: str) -> None:
        """Say that our `key` has no value any more. Nothing happens if it has none."""
        held = self.state.get(self.me, key)
        if held is not None and not held.deleted:
            self._write(key, None)

    def get(self, owner: PeerId, key: str) -> Mapping[str, Any] | None:
        """What `owner` says of `key`, or None if that is nothing, or no map."""
        entry = self.state.get(owner, key)
        if entry is None or entry.deleted:
            return None
        try:
            return decode_value_untrusted(entry.value)
        except BadRecord:
            return None

    def entries(self) -> Iterator[Entry]:
        """All that stands in the ledger, without deletions, sorted by owner and key."""
        return (entry for entry in self.state.entries() if not entry.deleted)

    def owners(self) -> list[PeerId]:
        """Everybody who ever wrote, sorted."""
        return self.state.owners()

    def node_record(self, peer: PeerId) -> NodeRecord | None:
        """What `peer` says of itself, or None if that is nothing we can read."""
        record = self._record(Place(peer, NODE_KEY))
        return record if isinstance(record, NodeRecord) else None

    def model_records(self, peer: PeerId) -> list[ModelRecord]:
        """The models `peer` says it has, sorted by name. Records we cannot read are left out."""
        records = (self._record(Place(peer, entry.key)) for entry in self.state.entries_of(peer))
        return [record for record in records if isinstance(record, ModelRecord)]

    @contextmanager
    def subscribe(self) -> Iterator[Changes]:
        """Every change from now on, as `changes.py` describes."""
        changes = Changes()
        self._subscriptions.append(changes)
        try:
            yield changes
        finally:
            self._subscriptions.remove(changes)

    def receive(self, encoded: bytes) -> Applied | Refused:
        """Take in an entry that a peer sent. One of our own that we do not remember is overruled.

        Such a one was written before our disk was lost or rolled back. What we hold now
        is written again, under an epoch after that entry's if it is from our future.

        Raises:
          BadEntry: it is none; the peer broke the protocol.
        """
        outcome = self._apply(encoded)
        match outcome:
            case Refused(reason):
                self.refusals[reason] += 1
            case Applied(entry, previous):
                self._note(entry)
                if entry.owner == self.me:
                    self._overrule(entry, previous)
        return outcome

    async def run(self) -> None:
        """Keep the file up to date until cancelled, then store the rest and close it.

        Raises:
          StoreError: the file cannot be written. What it holds is intact.
          CopiedIdentity: another living node writes with our key.
        """
        try:
            while self._failure is None:
                self._is_due = trio.Event()
                batch = list(self._unstored.values())
                if self._store is not None and batch:
                    # In a thread: a checkpoint of the journal waits for the disk, and every
                    # connection of ours dies when this loop stands still for seconds.
                    await trio.to_thread.run_sync(self._store.write, batch)
                    self._forget_stored(batch)
                else:
                    await self._is_due.wait()
            raise self._failure
        except trio.Cancelled:
            if self._store is not None:
                self._store.write(list(self._unstored.values()))
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, where `run` never ran: it closes what it kept."""
        if self._store is not None:
            self._store.close()

    def _write(self, key: str, value: bytes | None) -> None:
        held = self.state.get(self.me, key)
        if held is not None and not held.deleted and held.value == value:
            return
        version = self._version.next()
        entry = sign_entry(self._identity, key, version, value)
        match self.state.apply(entry):
            case Refused(reason):
                raise OverQuota(f"{key!r} cannot be written to the ledger: {reason.replace('_', ' ')}")
            case Applied():
                self._version = version
                self._note(entry)

    def _apply(self, encoded: bytes) -> Applied | Refused:
        try:
            entry = decode_entry_untrusted(encoded)
        except UnknownFormat:
            return Refused("unknown_format")
        return self.state.apply(entry)

    def _overrule(self, entry: Entry, previous: Entry | None) -> None:
        if entry.version > self._version:
            logger.warning("met our own %s, which we do not remember, as %s", entry.key, entry.version)
            self._version = entry.version.epoch_beyond()
            self._epochs_lost += 1
        if self._epochs_lost > EPOCHS_LOST_MAX:
            self._failure = CopiedIdentity(
                f"another living node writes as {self.me}: this home was copied; give one of them a new key"
            )
            self._is_due.set()
        # Even then: the copy must hear of us to stop as well.
        if previous is None or previous.deleted:
            self.delete(entry.key)
        else:
            self._write(entry.key, previous.value)

    def _recall(self, encoded: bytes) -> None:
        """Take in an entry from our own file."""
        try:
            outcome = self._apply(encoded)
        except BadEntry:
            outcome = Refused("bad_signature")
        match outcome:
            case Refused(reason):
                logger.warning("left out a damaged entry of the ledger's file: %s", reason)
            case Applied(entry) if entry.owner == self.me:
                self._version = max(self._version, entry.version)

    def _note(self, entry: Entry) -> None:
        self._records.pop(entry.place, None)
        if self._store is not None:
            self._unstored[entry.place] = entry
            self._is_due.set()
        for subscription in self._subscriptions:
            subscription.note(entry.place)

    def _forget_stored(self, batch: list[Entry]) -> None:
        for entry in batch:
            if self._unstored[entry.place] is entry:
                del self._unstored[entry.place]

    def _record(self, place: Place) -> Record | None:
        entry = self.state.get(place.owner, place.key)
        if entry is None or entry.deleted:
            return None
        if place not in self._records:
            self._records[place] = self._decode(entry)
        return self._records[place]

    def _decode(self, entry: Entry) -> Record | None:
        try:
            return decode_record(entry.key, decode_value_untrusted(entry.value))
        except BadRecord as error:
            self.unreadable += 1
            logger.info("cannot read the record %r of %s: %s", entry.key, entry.owner, error)
            return None
