"""The replicated state: for every owner and key, the entry with the largest rank.

Keeping the larger of two is commutative, associative and idempotent, so replicas
that have seen the same entries are equal, in whatever order they came. A deletion
is an entry like any other and stays, or an old write could come back.

Equality is compared from the top down, by digests that `sync.py` exchanges:

    root              one digest over
      bucket 0..31    one each over the owners whose public key falls into it
        owner         one each over the digests of its entries

Knows no keys to sign with, no disk and no peers. Verifies every signature itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ledger.entry import Entry, digest_of
from p2p.peer import PeerId, public_key_of

BUCKETS = 32
"""Of owners. All their digests are half a kilobyte; at a thousand nodes one bucket then lists
about thirty owners (1.5 KB) instead of all of them (50 KB) after one change."""

RefusalReason: TypeAlias = Literal[
    "stale",
    "bad_signature",
    "too_large",
    "too_far_ahead",
    "over_quota",
    "ledger_full",
    "unknown_format",
]
"""Why an entry did not enter. `stale` is everyday: we hold this one or a newer one."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The entry is in."""

    entry: Entry
    previous: Entry | None
    """What it replaced."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The entry is not in, and nothing changed."""

    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """How much an owner, and all of them together, may make everybody keep. Sizes in bytes."""

    key_size_max: int = 160
    """A model's name with room for an organisation before it."""
    value_size_max: int = 16 * 1024
    """The largest record, a node's with its hardware, takes one."""
    owner_entries_max: int = 1024
    """Models one node ever had until it compacts. `sync.py` lists them all in one frame."""
    owner_size_max: int = 512 * 1024
    """Half a kilobyte for each of those."""
    owners_max: int = 4096
    """Four times the largest swarm we simulate. `sync.py` lists them all in one frame."""
    size_max: int = 16 * 1024 * 1024
    """A thousand nodes with ten models each take 5 MB. Whoever fills it with the smallest entries
    makes everybody keep four times that in memory."""


@dataclass(slots=True)
class _Owned:
    """What one owner wrote."""

    bucket: int
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 0
    digest: bytes | None = None
    """None: not computed since the last change."""


class LedgerState:
    """All entries this replica holds.

    `me` is the owner that the limit on all owners together does not bind: whatever
    others pile up, a node can always speak for itself.
    """

    def __init__(self, me: PeerId, limits: LedgerLimits | None = None) -> None:
        self._me = me
        self.limits = limits or LedgerLimits()
        self._owned: dict[PeerId, _Owned] = {}
        self._buckets: list[dict[PeerId, _Owned]] = [{} for _ in range(BUCKETS)]
        self._bucket_digests: list[bytes | None] = [None] * BUCKETS
        self._size = 0

    def apply(self, entry: Entry) -> Applied | Refused:
        """Take `entry` in if it is genuine, fits, and is newer than what we hold."""
        reason = self.refusal(entry)
        if reason is None and not entry.is_signed_by_owner():
            reason = "bad_signature"
        if reason is not None:
            return Refused(reason)
        owned = self._owned.get(entry.owner)
        if owned is None:
            owned = _Owned(bucket_of(entry.owner))
            self._owned[entry.owner] = self._buckets[owned.bucket][entry.owner] = owned
        previous = owned.entries.get(entry.key)
        growth = len(entry.encoded) - (len(previous.encoded) if previous else 0)
        owned.entries[entry.key] = entry
        owned.size += growth
        self._size += growth
        owned.digest = self._bucket_digests[owned.bucket] = None
        return Applied(entry, previous)

    def refusal(self, entry: Entry) -> RefusalReason | None:
        """Why `entry` would be refused, its signature aside; None if it would not."""
        limits = self.limits
        if len(entry.key.encode()) > limits.key_size_max or len(entry.value) > limits.value_size_max:
            return "too_large"
        if not entry.version.is_plausible:
            return "too_far_ahead"
        owned = self._owned.get(entry.owner)
        held = owned.entries.get(entry.key) if owned else None
        if held is not None and held.rank >= entry.rank:
            return "stale"
        growth = len(entry.encoded) - (len(held.encoded) if held else 0)
        if owned is not None and growth > 0:
            count = len(owned.entries) + (held is None)
            if count > limits.owner_entries_max or owned.size + growth > limits.owner_size_max:
                return "over_quota"
        if entry.owner != self._me and growth > 0:
            is_crowded = owned is None and len(self._owned) >= limits.owners_max
            if is_crowded or self._size + growth > limits.size_max:
                return "ledger_full"
        return None

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
        return digest_of(b"".join(self.bucket_digests()))

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
