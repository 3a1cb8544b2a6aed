"""A floor: an owner's word that nothing it wrote before an epoch counts any more.

    epoch 1    a, b, c deleted, d deleted, e deleted ...
    epoch 2    a, b, and the floor: {"count": 2}

Deletions must be kept, or an old write could come back with a peer that was away. A
floor is how they go: the owner writes what still holds again, under the next epoch, and
a floor that says how many keys that were. A replica that holds so many keys at or above
the epoch drops all below it and refuses it for ever. Until then it keeps what it has:
nobody sees a gap because the floor was the quicker one.

A floor is an entry like others, in a place of its own epoch. What a replica holds is
therefore still decided by the entries it has seen and not by their order: of the
complete floors the highest holds, and it drops the lower ones with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.entry import Entry, Scope
from ledger.errors import BadRecord
from ledger.record_fields import RecordFields, decode_value_untrusted, encode_value

_PREFIX = "floor/"


def floor_key(epoch: int) -> str:
    """Where the floor of `epoch` stands."""
    return f"{_PREFIX}{epoch}"


def floor_value(count: int) -> bytes:
    """The value of a floor over `count` keys."""
    return encode_value({"count": count})


def is_floor(entry: Entry) -> bool:
    """Whether `entry` stands where floors do."""
    return entry.key.startswith(_PREFIX)


def floor_count(entry: Entry) -> int | None:
    """How many keys the floor in `entry` is over; None: it is no floor that holds.

    Swarm-wide keys have none: while one admin cleans up, another, cut off, may be writing
    what would fall below.
    """
    if entry.scope is not Scope.OWN or entry.deleted or entry.key != floor_key(entry.version.epoch):
        return None
    try:
        return RecordFields(decode_value_untrusted(entry.value)).count("count")
    except BadRecord:
        return None


def highest_complete(floors: Iterable[tuple[int, int]], entries: Iterable[Entry]) -> int:
    """The largest epoch among `floors`, as (epoch, count), for which `entries` suffice; 0 if none."""
    epochs = sorted((entry.version.epoch for entry in entries if not is_floor(entry)), reverse=True)
    complete = (
        epoch
        for epoch, count in floors
        if count == 0 or (count <= len(epochs) and epochs[count - 1] >= epoch)
    )
    return max(complete, default=0)
