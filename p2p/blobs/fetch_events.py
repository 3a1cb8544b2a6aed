"""What a fetch is told, what it orders, and its bounds. The core that reads this is `fetch.py`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from p2p.blobs.have_map import HaveMap
from p2p.peer import PeerId

UNDER_WAY_MAX = 32
"""Chunks that all fetches of a node together have asked for, or that arrived and are not yet written: 128
MiB, if all seeders send all at once. Where the disk is slower than the peers they stop asking. When one more
begins, its share comes on top until what the others asked for before is there."""


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """Bounds of one fetch."""

    work_under_way: float = 0.5
    """Seconds of work that a seeder is asked for ahead: a hundred round trips at home, so it never runs dry,
    and what is lost with a seeder that dies is no more than that. Design."""
    window_min: int = 2
    """Chunks: while one is checked and the next one is asked for, another one is on its way."""
    window_max: int = 16
    """Chunks, 64 MiB: half a second at 130 MB/s, which is more than one stream carries."""
    speed_assumed: float = 4.0e6
    """Bytes a second of a seeder that was not measured yet: a chunk a second, as over a poor Wi-Fi. Guess."""
    silence_min: float = 10.0
    """Seconds without a byte after which a seeder that owes us chunks is given up. A peer that is frozen is
    found by the failure detector in three to six; this is for one that lives and does not give, and a seeder
    lets those wait whose turn it is not."""
    silence_max: float = 30.0
    """The same for the slowest, and for one that gave nothing yet: at less than 64 KiB in this time a model
    would take weeks."""
    silence_chunks: float = 4.0
    """In between, the time in which it should have sent so many chunks, by its own speed."""
    rest_min: float = 0.5
    """Seconds until a busy seeder is asked again, doubled each time, to `rest_max`, and spread evenly, so
    that those whom it refused together do not come back together."""
    rest_max: float = 16.0
    gain_factor: float = 2.0
    """A chunk that one seeder owes is asked of an idle one only if that has it so many times sooner,"""
    gain_min: float = 1.0
    """and so many seconds at least: what came of it meanwhile is lost."""
    look_interval: float = 0.5
    """Seconds between looks at who is late."""


class Refusal(Enum):
    """Why a seeder does not give a chunk."""

    BUSY = "busy"
    """It will, later."""
    NO_CHUNK = "no_chunk"
    """It does not have it, whatever it said."""
    GONE = "gone"
    """The whole file is gone."""


@dataclass(frozen=True, slots=True)
class SeederOffered:
    """`peer` said which chunks it has; what it said before does not count any more."""

    peer: PeerId
    has: HaveMap
    """Ours from now on."""


@dataclass(frozen=True, slots=True)
class SeederGained:
    """`peer` has these chunks too."""

    peer: PeerId
    chunks: Collection[int]


@dataclass(frozen=True, slots=True)
class SeederLost:
    """`peer` gives nothing any more: it is gone, or does not have the file."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class HashesKnown:
    """These chunks can be checked from now on, and so can be asked for."""

    chunks: Collection[int]


@dataclass(frozen=True, slots=True)
class BytesArrived:
    """So many bytes more of `chunk`, which `peer` owes."""

    peer: PeerId
    chunk: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LateBytesArrived:
    """So many bytes that `peer` does not owe any more: they crossed a `Cancel`."""

    peer: PeerId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """All bytes of `chunk` came from `peer`. It is being checked and written."""

    peer: PeerId
    chunk: int


@dataclass(frozen=True, slots=True)
class ChunkStored:
    """`chunk` is there: it was checked and written, or came from somewhere else than a peer."""

    chunk: int


@dataclass(frozen=True, slots=True)
class ChunksLost:
    """These were stored, and are not any more: the disk gave something else back than was written. They are
    asked for once `HashesKnown` says that they can be checked."""

    chunks: Collection[int]


@dataclass(frozen=True, slots=True)
class ChunkWrong:
    """What came from `peer` as `chunk` has another hash."""

    peer: PeerId
    chunk: int


@dataclass(frozen=True, slots=True)
class ChunkRefused:
    """`peer` does not give `chunk`."""

    peer: PeerId
    chunk: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class TimerFired:
    """It is `Fetch.wake_at`."""


Event: TypeAlias = (
    SeederOffered
    | SeederGained
    | SeederLost
    | HashesKnown
    | BytesArrived
    | LateBytesArrived
    | ChunkArrived
    | ChunkStored
    | ChunksLost
    | ChunkWrong
    | ChunkRefused
    | TimerFired
)


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask `peer` for `chunk`."""

    peer: PeerId
    chunk: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell `peer` that `chunk` is not needed of it any more."""

    peer: PeerId
    chunk: int


@dataclass(frozen=True, slots=True)
class DropSeeder:
    """Have nothing to do with `peer` in this fetch any more: it sent a wrong chunk."""

    peer: PeerId


Effect: TypeAlias = Ask | Cancel | DropSeeder
