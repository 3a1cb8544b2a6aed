"""The ledger as the rest of the program holds it: read everything, write your own.

    ledger = Ledger.open(home / "ledger.sqlite", author, founder_public_key, boot_id)
    nursery.start_soon(ledger.run)                  # keeps the file
    ledger.put_record(NodeRecord(...))              # signed, applied, on its way to all
    with ledger.subscribe() as changes:
        async for place in changes: ...             # ours and everybody's

Reading and writing happen in memory, at once; the file follows a moment later. A
write that got out and was lost here, in a crash, comes back from the peers and is
overruled by what we say now (`replica.py`, which decides everything).

Entries of others reach `receive` through `replicate.py`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from ledger.backlog import Backlog
from ledger.changes import Changes
from ledger.entry import SWARM, Author, Entry, Place
from ledger.errors import BadRecord, CopiedIdentity, StoreFull
from ledger.proof import Proofs
from ledger.record_fields import decode_value_untrusted, encode_value
from ledger.records import (
    LEAVE_KEY,
    NODE_KEY,
    AliasRecord,
    LeaveRecord,
    ModelName,
    ModelRecord,
    NodeRecord,
    OwnRecord,
    PlacementRecord,
    Record,
    SwarmRecord,
    decode_record,
    encode_record,
    key_of,
    placement_key,
)
from ledger.replica import Replica
from ledger.state import Applied, LedgerLimits, LedgerState, RefusalReason, Refused
from ledger.store import Store, open_store
from p2p.credential import Role
from p2p.peer import PeerId

logger = logging.getLogger(__name__)

_LAST_WORD_TIME = 2.0
"""Seconds that our copy, once it is proved, gets to hear of us: it must stop as well. A few round trips, and
a round of reconciliation if it is not connected to those we are connected to."""
_FULL_DISK_PAUSE = 60.0
"""Seconds until a full disk is tried again, and complained of: a person makes room, and reads the log."""


class Ledger:
    """One replica, kept on disk and watched."""

    def __init__(
        self,
        replica: Replica,
        store: Store | None,
        proofs: Proofs,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.unreadable = 0
        """How many records were not what their key promises."""
        self._replica = replica
        self._store = store
        self._proofs = proofs
        self._subscriptions: list[Changes] = []
        self._subscriptions_to_own: list[Changes] = []
        self._records: dict[Place, Record | None] = {}
        """Decoded before; None: it is of no type of ours, or cannot be read."""
        self._backlog = Backlog(wall_clock)
        self._copied: CopiedIdentity | None = None
        self._is_due = trio.Event()
        left_out = replica.restore(store.load() if store is not None else ())
        if left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(left_out).items()))
            logger.warning("left out entries of the ledger's file that do not hold: %s", reasons)
        replica.take_changes()  # What was on the disk is no news.
        replica.begin()
        self._follow()

    @classmethod
    def open(
        cls,
        path: Path | None,
        author: Author,
        founder_public_key: bytes,
        boot_id: str,
        limits: LedgerLimits | None = None,
    ) -> Ledger:
        """The ledger kept in `path`; None keeps it in memory only. `boot_id` is new in each process.

        Raises:
          StoreError: the file cannot be used; which leaf says why.
        """
        proofs = Proofs(founder_public_key)
        store = open_store(path) if path is not None else None
        return cls(Replica(author, proofs, boot_id, limits), store, proofs)

    @property
    def me(self) -> PeerId:
        """Whose entries `put` and `delete` write."""
        return self._replica.me

    @property
    def state(self) -> LedgerState:
        """To compare with others'."""
        return self._replica.state

    @property
    def refusals(self) -> Mapping[RefusalReason, int]:
        """How much of what peers sent was refused, by reason."""
        return self._replica.refusals

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Say that our `key` has `value`. Nothing happens if that stands there already.

        Raises:
          OverQuota: it is too large, or we wrote too much.
        """
        self._replica.put(key, encode_value(value))
        self._follow()

    def put_record(self, record: OwnRecord) -> None:
        """`put` of a record of ours.

        Raises:
          OverQuota: it is too large, or we wrote too much.
        """
        self.put(key_of(record), encode_record(record))

    def delete(self, key: str) -> None:
        """Say that our `key` has no value any more. Nothing happens if it has none."""
        self._replica.delete(key)
        self._follow()

    def leave(self, record: LeaveRecord) -> None:
        """Give our place up: from now on this is all we say."""
        self._replica.retire(LEAVE_KEY, encode_value(encode_record(record)))
        self._follow()

    def put_shared(self, record: SwarmRecord) -> None:
        """Say what the whole swarm is to follow.

        Raises:
          NotAnAdmin: this node may not.
          OverQuota: it is too large, or there are too many.
        """
        self._replica.put_shared(key_of(record), encode_value(encode_record(record)))
        self._follow()

    def delete_shared(self, key: str) -> None:
        """Take back what the whole swarm was to follow.

        Raises:
          NotAnAdmin: this node may not.
        """
        self._replica.put_shared(key, None)
        self._follow()

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
        """What `peer` says of itself, or None if that is nothing we can read, or it has left."""
        if self.leave_record(peer) is not None:
            return None
        record = self._record(Place(peer, NODE_KEY))
        return record if isinstance(record, NodeRecord) else None

    def leave_record(self, peer: PeerId) -> LeaveRecord | None:
        """What `peer` said when it gave its place up, or None if it did not."""
        record = self._record(Place(peer, LEAVE_KEY))
        return record if isinstance(record, LeaveRecord) else None

    def model_records(self, peer: PeerId) -> list[ModelRecord]:
        """The models `peer` says it has, sorted by name. Records we cannot read are left out."""
        records = (self._record(entry.place) for entry in self.state.entries_of(peer))
        return [record for record in records if isinstance(record, ModelRecord)]

    def alias_records(self) -> list[AliasRecord]:
        """Every other name for a model, sorted."""
        records = (self._record(entry.place) for entry in self.state.entries_of(SWARM))
        return [record for record in records if isinstance(record, AliasRecord)]

    def placement_records(self) -> list[PlacementRecord]:
        """Every model that is wanted somewhere, sorted."""
        records = (self._record(entry.place) for entry in self.state.entries_of(SWARM))
        return [record for record in records if isinstance(record, PlacementRecord)]

    def is_withdrawn(self, model: ModelName) -> bool:
        """Whether an admin took back that `model` is wanted somewhere. Nobody ever wanted it: it was not."""
        entry = self.state.get(SWARM, placement_key(model))
        return entry is not None and entry.deleted

    def role(self, peer: PeerId) -> Role | None:
        """What `peer`, whose node record we hold, may do in the swarm; None: we hold none."""
        entry = self.state.get(peer, NODE_KEY)
        grant = self._proofs.grant(entry) if entry is not None else None
        return grant.role if grant is not None else None

    @contextmanager
    def subscribe(self, *, own_writes: bool = False) -> Iterator[Changes]:
        """Every change from now on, or every one that we wrote, as `changes.py` describes."""
        changes = Changes()
        subscriptions = self._subscriptions_to_own if own_writes else self._subscriptions
        subscriptions.append(changes)
        try:
            yield changes
        finally:
            subscriptions.remove(changes)

    def receive(self, encoded: bytes, source: PeerId) -> Applied | Refused:
        """Take in an entry that `source` sent. One of our own that we do not remember is overruled.

        Raises:
          BadEntry: it is none; the peer broke the protocol.
        """
        outcome = self._replica.receive(encoded, source)
        self._follow()
        return outcome

    def refuse(self, reason: RefusalReason) -> Refused:
        """Count what was refused and is no entry."""
        return self._replica.refuse(reason)

    def note_refusal(self, refused: Refused, source: PeerId) -> None:
        """Keep in the log that `source` sent something that does not belong here."""
        if self._store is not None:
            self._backlog.note_refusal(refused, source)
            self._is_due.set()

    async def run(self) -> None:
        """Keep the file up to date until cancelled, then store the rest and close it.

        Raises:
          StoreError: the file cannot be written; one on a full disk only in the end. What it holds is intact.
          CopiedIdentity: another living node writes with our key, and had time to hear of us.
        """
        try:
            while self._copied is None:
                self._is_due = trio.Event()
                if self._store is not None and self._backlog:
                    await self._write_behind(self._store)
                else:
                    await self._is_due.wait()
            await trio.sleep(_LAST_WORD_TIME)
            raise self._copied
        except trio.Cancelled:
            if self._store is not None:
                with self._backlog.taken() as batch:
                    self._store.write(*batch)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, where `run` never ran: it closes what it kept."""
        if self._store is not None:
            self._store.close()

    async def _write_behind(self, store: Store) -> None:
        """Write the backlog. While the disk is full it waits: peers hold it too, or an epoch mends it."""
        try:
            with self._backlog.taken() as batch:
                # In a thread: a checkpoint of the journal waits for the disk, and every
                # connection of ours dies when this loop stands still for seconds.
                has_begun_anew = await trio.to_thread.run_sync(store.write, *batch)
        except StoreFull as error:
            logger.warning("%s. Until there is room, what is new is kept in memory only", error)
            with trio.move_on_after(_FULL_DISK_PAUSE):
                while self._copied is None:
                    self._is_due = trio.Event()
                    await self._is_due.wait()
            return
        if has_begun_anew:
            self._backlog.refill(self.state.entries())

    def _follow(self) -> None:
        """Pass on what changed in the replica."""
        for change in self._replica.take_changes():
            place = change.entry.place
            self._records.pop(place, None)
            if self._store is not None:
                self._backlog.note(change, self.state.get(*place))
                self._is_due.set()
            is_own = change.source is None
            for subscription in (*self._subscriptions, *(self._subscriptions_to_own if is_own else ())):
                subscription.note(place)
        if self._replica.is_copied and self._copied is None:
            self._copied = CopiedIdentity(
                f"another living node writes as {self.me}: this home was copied. Move node.key and "
                "ledger.sqlite out of one of the two, which makes it a node of its own, and start both again"
            )
            logger.error("%s", self._copied)
            self._is_due.set()

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
