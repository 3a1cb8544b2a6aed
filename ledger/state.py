"""The replicated state: for every owner and key, the entry with the largest rank.

Keeping the larger of two is commutative, associative and idempotent, so replicas
that have seen the same entries are equal, in whatever order they came. A deletion
is an entry like any other and stays, or an old write could come back, until a floor of
its owner (`floor.py`) refuses all that is older.

Equality is compared from the top down, by digests that `sync.py` exchanges:

    root              one digest over
      bucket 0..31    one each over the owners whose public key falls into it
        owner         one each over the digests of its entries

Knows no keys to sign with, no disk and no peers. Lets in only what proves itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ledger.entry import SWARM, Entry, Scope, digest_of
from ledger.floor import floor_count, highest_complete
from ledger.proof import Proofs
from ledger.version import VERSION_PART_MAX
from p2p.credential import Grant, InviteId
from p2p.peer import PeerId, public_key_of

BUCKETS = 32
"""Of owners. All their digests are half a kilobyte; at a thousand nodes one bucket then lists
about thirty owners (1.5 KB) instead of all of them (50 KB) after one change."""

RefusalReason: TypeAlias = Literal[
    "stale",
    "below_floor",
    "bad_signature",
    "not_a_member",
    "not_the_owner",
    "too_large",
    "too_far_ahead",
    "over_quota",
    "invite_full",
    "ledger_full",
    "unknown_format",
    "asks_too_much",
]
"""Why an entry did not enter. `stale` and `below_floor` are everyday: a peer was away, or the entry came
by two ways. `not_the_owner`: a swarm-wide key, and the writer is no admin. `asks_too_much` is no entry but
a question that waits for its answer."""

EVERYDAY: frozenset[RefusalReason] = frozenset({"stale", "below_floor"})
"""Reasons that are nobody's fault."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The entry is in."""

    entry: Entry
    previous: Entry | None
    """What it replaced."""
    dropped: tuple[Entry, ...] = ()
    """What fell below a floor that it completed, sorted by key."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The entry is not in, or the question not answered yet, and nothing changed."""

    reason: RefusalReason
    entry: Entry | None = field(default=None, compare=False, repr=False)
    """What was refused, if it could be read."""


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """How much an owner, and all of them together, may make everybody keep. Sizes in bytes."""

    key_size_max: int = 160
    """A model's name with room for an organisation before it."""
    value_size_max: int = 16 * 1024
    """The largest record, a node's with its hardware, takes one."""
    owner_entries_max: int = 1024
    """Models one node has, and as many deletions. `sync.py` lists them all in one frame."""
    owner_size_max: int = 768 * 1024
    """Three quarters of a kilobyte for each of those."""
    owners_max: int = 4096
    """Four times the largest swarm we simulate. `sync.py` lists them all in one frame."""
    size_max: int = 16 * 1024 * 1024
    """A thousand nodes with ten models each take 6 MB. Whoever fills it with the smallest entries
    makes everybody keep twice that in memory."""
    invite_owners_max: int = 2048
    """Who holds an invite can make up members without end. However many: half the ledger is for others."""
    invite_size_max: int = 8 * 1024 * 1024
    """The same in bytes."""


@dataclass(slots=True)
class _Shelf:
    """What all owners that one invite let in take."""

    owners: int = 0
    size: int = 0


@dataclass(slots=True)
class _Owned:
    """What one owner wrote."""

    bucket: int
    shelf: _Shelf
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 0
    digest: bytes | None = None
    """None: not computed since the last change."""
    floor: int = 0
    """Below this epoch nothing is taken any more."""
    floors: dict[int, int] = field(default_factory=dict)
    """Those that are not complete: how many keys each is over, by epoch."""


class LedgerState:
    """All entries this replica holds.

    `me` and the swarm are owners that the limits on all owners together do not bind: whatever
    others pile up, a node can always speak for itself, and admins for the swarm.
    """

    def __init__(self, me: PeerId, proofs: Proofs, limits: LedgerLimits | None = None) -> None:
        self._unbound = frozenset({me, SWARM})
        self._proofs = proofs
        self.limits = limits or LedgerLimits()
        self._owned: dict[PeerId, _Owned] = {}
        self._buckets: list[dict[PeerId, _Owned]] = [{} for _ in range(BUCKETS)]
        self._bucket_digests: list[bytes | None] = [None] * BUCKETS
        self._root_digest: bytes | None = None
        self._shelves: defaultdict[InviteId, _Shelf] = defaultdict(_Shelf)
        """By the founder's invite that an owner goes back to: those below that are made up freely."""
        self._size = 0

    def apply(self, entry: Entry) -> Applied | Refused:
        """Take `entry` in if it is genuine, fits, and is newer than what we hold."""
        reason = self._misfit(entry)
        if reason is not None:
            return Refused(reason, entry)
        grant = self._grant(entry)
        if isinstance(grant, Refused):
            return grant
        owned = self._owned.get(entry.owner) or self._welcome(entry.owner, grant.invites[0])
        previous = owned.entries.get(entry.key)
        self._resize(owned, _growth(previous, entry))
        owned.entries[entry.key] = entry
        return Applied(entry, previous, self._settle_floors(owned, entry))

    def is_below_floor(self, owner: PeerId, epoch: int) -> bool:
        """Whether what `owner` wrote in `epoch` is refused for ever."""
        owned = self._owned.get(owner)
        return owned is not None and epoch < owned.floor

    def _misfit(self, entry: Entry) -> RefusalReason | None:
        """Why `entry` has no place here, whoever wrote it. Cheap: it comes before the signatures."""
        limits = self.limits
        if len(entry.key.encode()) > limits.key_size_max or len(entry.value) > limits.value_size_max:
            return "too_large"
        if not _is_plausible(entry):
            return "too_far_ahead"
        owned = self._owned.get(entry.owner)
        if owned is not None and entry.version.epoch < owned.floor:
            return "below_floor"
        held = owned.entries.get(entry.key) if owned else None
        if held is not None and held.rank >= entry.rank:
            return "stale"
        growth = _growth(held, entry)
        if owned is not None and growth > 0:
            count = len(owned.entries) + (held is None)
            if count > limits.owner_entries_max or owned.size + growth > limits.owner_size_max:
                return "over_quota"
        if entry.owner not in self._unbound and growth > 0:
            is_crowded = owned is None and len(self._owned) >= limits.owners_max
            if is_crowded or self._size + growth > limits.size_max:
                return "ledger_full"
        return None

    def _grant(self, entry: Entry) -> Grant | Refused:
        """What the writer may do, if `entry` proves itself and its invite has room."""
        grant = self._proofs.grant(entry)
        if grant is None:
            return Refused("not_a_member", entry)
        if entry.scope is Scope.SWARM and grant.role != "admin":
            return Refused("not_the_owner", entry)
        if entry.owner not in self._unbound and self._is_crowded(entry, grant.invites[0]):
            return Refused("invite_full", entry)
        if entry.writer == SWARM or not self._proofs.is_signed(entry):
            return Refused("bad_signature", entry)
        return grant

    def _is_crowded(self, entry: Entry, invite: InviteId) -> bool:
        """Whether those whom `invite` let in take all the room they get."""
        owned = self._owned.get(entry.owner)
        if owned is None:
            shelf = self._shelves[invite]
            return shelf.owners >= self.limits.invite_owners_max or self._is_too_much(shelf, None, entry)
        return self._is_too_much(owned.shelf, owned.entries.get(entry.key), entry)

    def _is_too_much(self, shelf: _Shelf, held: Entry | None, entry: Entry) -> bool:
        growth = _growth(held, entry)
        return growth > 0 and shelf.size + growth > self.limits.invite_size_max

    def _welcome(self, owner: PeerId, invite: InviteId) -> _Owned:
        """Room for an owner's first entry."""
        # What many admins write counts against none of their invites.
        owned = _Owned(bucket_of(owner), _Shelf() if owner == SWARM else self._shelves[invite])
        owned.shelf.owners += 1
        self._owned[owner] = self._buckets[owned.bucket][owner] = owned
        return owned

    def _settle_floors(self, owned: _Owned, entry: Entry) -> tuple[Entry, ...]:
        """Drop what fell below a floor that `entry` is, or completes."""
        count = floor_count(entry)
        if count is not None:
            owned.floors[entry.version.epoch] = count
        if not owned.floors:
            return ()
        owned.floor = max(owned.floor, highest_complete(owned.floors.items(), owned.entries.values()))
        owned.floors = {epoch: count for epoch, count in owned.floors.items() if epoch > owned.floor}
        below = [key for key, each in owned.entries.items() if each.version.epoch < owned.floor]
        dropped = tuple(owned.entries.pop(key) for key in sorted(below))
        self._resize(owned, -sum(len(each.encoded) for each in dropped))
        return dropped

    def _resize(self, owned: _Owned, growth: int) -> None:
        owned.size += growth
        owned.shelf.size += growth
        self._size += growth
        owned.digest = self._bucket_digests[owned.bucket] = self._root_digest = None

    def get(self, owner: PeerId, key: str) -> Entry | None:
        """The entry under `key`, deleted or not."""
        owned = self._owned.get(owner)
        return owned.entries.get(key) if owned else None

    def owners(self) -> list[PeerId]:
        """Everybody with an entry here, sorted."""
        return sorted(self._owned)

    def entries_of(self, owner: PeerId) -> list[Entry]:
        """What `owner` wrote, deletions included, sorted by key."""
        owned = self._owned.get(owner)
        return [owned.entries[key] for key in sorted(owned.entries)] if owned else []

    def entries(self) -> Iterator[Entry]:
        """Everything, deletions included, sorted by owner and key."""
        for owner in self.owners():
            yield from self.entries_of(owner)

    @property
    def size(self) -> int:
        """Bytes of all entries as they travel."""
        return self._size

    def root_digest(self) -> bytes:
        """Equal on two replicas if and only if they hold the same."""
        if self._root_digest is None:
            self._root_digest = digest_of(b"".join(self.bucket_digests()))
        return self._root_digest

    def bucket_digests(self) -> list[bytes]:
        """One digest per bucket."""
        return [self._bucket_digest(bucket) for bucket in range(BUCKETS)]

    def owner_digest(self, owner: PeerId) -> bytes | None:
        """One digest over all that `owner` wrote, or None if there is nothing."""
        owned = self._owned.get(owner)
        if owned is None:
            return None
        if owned.digest is None:
            digests = sorted(entry.digest for entry in owned.entries.values())
            owned.digest = digest_of(b"".join(digests))
        return owned.digest

    def owners_in(self, bucket: int) -> list[PeerId]:
        """The owners of one bucket, sorted."""
        return sorted(self._buckets[bucket])

    def _bucket_digest(self, bucket: int) -> bytes:
        digest = self._bucket_digests[bucket]
        if digest is None:
            parts = [owner.encode() + (self.owner_digest(owner) or b"") for owner in self.owners_in(bucket)]
            digest = self._bucket_digests[bucket] = digest_of(b"".join(parts))
        return digest


def bucket_of(owner: PeerId) -> int:
    """The bucket `owner` belongs to, the same on every replica."""
    return public_key_of(owner)[0] % BUCKETS


def _growth(held: Entry | None, entry: Entry) -> int:
    """Bytes that `entry` takes more than `held`, which it replaces."""
    return len(entry.encoded) - (len(held.encoded) if held else 0)


def _is_plausible(entry: Entry) -> bool:
    """False for versions that no honest writer ever reaches."""
    is_counted = entry.scope is Scope.OWN  # What stands there of the swarm's is the writer.
    return entry.version.epoch <= VERSION_PART_MAX and (
        not is_counted or entry.version.counter <= VERSION_PART_MAX
    )
