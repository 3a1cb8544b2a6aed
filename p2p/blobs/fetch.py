"""Fetch: which chunk of one file is asked of which seeder, and when it is taken away from it.

    wanted --(a seeder has room)--> asked --(all bytes came)--> checked --(hash, disk)--> stored
       ^                              |                            |
       +---- refused, lost, silent ---+----- wrong: seeder dropped +

Several seeders give at once, each as much as half a second of its own speed takes. A seeder that would
stand idle takes what another one owes but has not begun, if it would be there much sooner; a chunk that was
begun is asked for twice then, and the loser is cancelled. So at the end nobody waits for the slowest. What
another one comes by is asked of that one: who alone had it has better things to give.

It ends when every chunk is stored, or when its owner gives up: that nobody has a chunk now says nothing of
tomorrow. What came from a seeder counts only once the shell has compared its hash, so a liar costs a chunk's
time and is dropped. Reads no clock, sends nothing, holds no data.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from random import Random

from p2p.blobs.asked_seeder import AskedSeeder
from p2p.blobs.fetch_events import (
    UNDER_WAY_MAX,
    Ask,
    BytesArrived,
    Cancel,
    ChunkArrived,
    ChunkRefused,
    ChunksLost,
    ChunkStored,
    ChunkWrong,
    DropSeeder,
    Effect,
    Event,
    FetchConfig,
    HashesKnown,
    LateBytesArrived,
    Refusal,
    SeederGained,
    SeederLost,
    SeederOffered,
    TimerFired,
)
from p2p.blobs.have_map import HaveMap
from p2p.blobs.manifest import CHUNK_SIZE, chunk_count, chunk_size
from p2p.blobs.wanted_chunks import WantedChunks
from p2p.peer import PeerId


class Fetch:
    """Give it every event, carry out every effect, and fire its timer at `wake_at`."""

    under_way_max: int
    """Chunks that may be asked for, or arrived and not yet written, from the next event on."""

    def __init__(
        self, size_bytes: int, have: HaveMap, me: PeerId, rng: Random, config: FetchConfig | None = None
    ) -> None:
        """`have`: what is stored already. What else can be checked is said by `HashesKnown`. `me`: as whom
        others that fetch the same know us."""
        self.config = config or FetchConfig()
        self.under_way_max = UNDER_WAY_MAX
        self.wasted_bytes = 0
        """What came and was of no use: of cancelled, refused, lost and wrong chunks."""
        self._size_bytes = size_bytes
        self._rng = rng
        self._wanted = WantedChunks(chunk_count(size_bytes), me)
        self._stored = have.copy()
        self._arrived: set[int] = set()
        """Chunks that are being checked and written."""
        self._seeders: dict[PeerId, AskedSeeder] = {}
        self._dropped: set[PeerId] = set()
        self._look_at = math.inf
        self._effects: list[Effect] = []

    @property
    def is_done(self) -> bool:
        """Every chunk is stored."""
        return self._stored.is_full

    @property
    def wake_at(self) -> float:
        """When to fire the timer, unless an event comes first."""
        return self._look_at

    def why_waiting(self, now: float) -> str:
        """For a person: why nothing comes. Empty while something does."""
        if self.is_done or self._arrived or any(seeder.owed for seeder in self._seeders.values()):
            return ""
        if not self._seeders:
            return "no peer offers this file now"
        if not len(self._wanted):
            return "the origin has not told the hashes of more chunks yet"
        if self._wanted.nobody_has == len(self._wanted):
            return f"no peer has any of the {len(self._wanted)} chunks that are missing"
        if all(seeder.rests_until > now for seeder in self._seeders.values()):
            return f"all peers that offer this file are busy ({len(self._seeders)})"
        return "peers that have what is missing are asked again in a moment"

    def handle(self, event: Event, now: float) -> list[Effect]:  # noqa: C901 - a line per event
        """What to do about `event`."""
        match event:
            # These come in thousands, and seldom change who should be asked.
            case BytesArrived(peer, chunk, size_bytes):
                self._seeders[peer].gave(chunk, size_bytes, now)
                return []
            case LateBytesArrived(_, size_bytes):
                self.wasted_bytes += size_bytes
                return []
            case SeederOffered(peer, has):
                self._on_offer(peer, has)
            case SeederGained(peer, chunks):
                if peer in self._seeders:
                    self._on_gained(peer, chunks, now)
            case SeederLost(peer):
                self._lose(peer)
            case HashesKnown(chunks):
                self._wanted.add(chunk for chunk in chunks if self._is_missing(chunk))
            case ChunkArrived(peer, chunk):
                self._on_arrived(peer, chunk)
            case ChunkStored(chunk):
                self._on_stored(chunk)
            case ChunksLost(chunks):
                for chunk in chunks:
                    self._stored.discard(chunk)
            case ChunkWrong(peer, chunk):
                self._on_wrong(peer, chunk)
            case ChunkRefused(peer, chunk, refusal):
                self._on_refused(peer, chunk, refusal, now)
            case TimerFired():
                pass
        self._give_up_silent(now)
        self._ask(now)
        self._set_timer(now)
        effects, self._effects = self._effects, []
        return effects

    def _is_missing(self, chunk: int) -> bool:
        """Neither stored, nor on its way."""
        return (
            chunk not in self._stored
            and chunk not in self._arrived
            and not any(chunk in seeder.owed for seeder in self._seeders.values())
        )

    def _on_offer(self, peer: PeerId, has: HaveMap) -> None:
        if peer not in self._dropped:
            self._seeders.setdefault(peer, AskedSeeder(self.config))
            self._wanted.seeder_has(peer, has)

    def _on_gained(self, peer: PeerId, chunks: Collection[int], now: float) -> None:
        self._wanted.seeder_gained(peer, chunks)
        if not self._seeders[peer].has_room(now):
            return
        gained = set(chunks)
        for other, seeder in sorted(self._seeders.items()):
            unbegun = [chunk for chunk, owed in seeder.owed.items() if not owed.arrived and other != peer]
            for chunk in unbegun:
                if chunk in gained:
                    self._effects.append(Cancel(other, chunk))
                    self._take_back(seeder, chunk)

    def _on_arrived(self, peer: PeerId, chunk: int) -> None:
        self._seeders[peer].settled(chunk)
        self._arrived.add(chunk)
        self._cancel_everywhere(chunk)

    def _on_stored(self, chunk: int) -> None:
        self._arrived.discard(chunk)
        self._wanted.discard(chunk)
        self._stored.add(chunk)
        self._cancel_everywhere(chunk)

    def _on_wrong(self, peer: PeerId, chunk: int) -> None:
        self._arrived.discard(chunk)
        self.wasted_bytes += chunk_size(self._size_bytes, chunk)
        self._want(chunk)
        self._dropped.add(peer)
        self._lose(peer)
        self._effects.append(DropSeeder(peer))

    def _on_refused(self, peer: PeerId, chunk: int, refusal: Refusal, now: float) -> None:
        seeder = self._seeders[peer]
        self._take_back(seeder, chunk)
        # Whatever the reason, it rests: or a liar would be asked as fast as it can refuse.
        seeder.refused(now, self._rng)
        if refusal is Refusal.NO_CHUNK:
            self._wanted.seeder_lacks(peer, chunk)
        elif refusal is Refusal.GONE:
            self._wanted.seeder_has(peer, HaveMap(self._stored.chunk_count))
            self._take_all_back(peer, seeder)

    def _lose(self, peer: PeerId) -> None:
        seeder = self._seeders.pop(peer, None)
        if seeder is not None:
            self._wanted.seeder_gone(peer)
            self._take_all_back(peer, seeder)

    def _give_up_silent(self, now: float) -> None:
        """Who owes and gives nothing loses it all, and rests: it may have been asleep."""
        for peer, seeder in sorted(self._seeders.items()):
            if seeder.silent_at <= now:
                seeder.was_late(now)
                seeder.refused(now, self._rng)
                self._take_all_back(peer, seeder)

    def _take_all_back(self, peer: PeerId, seeder: AskedSeeder) -> None:
        for chunk in list(seeder.owed):
            self._effects.append(Cancel(peer, chunk))
            self._take_back(seeder, chunk)

    def _take_back(self, seeder: AskedSeeder, chunk: int) -> None:
        """`seeder` will not give `chunk`."""
        self.wasted_bytes += seeder.settled(chunk)
        self._want(chunk)

    def _want(self, chunk: int) -> None:
        if self._is_missing(chunk):
            self._wanted.add([chunk])

    def _cancel_everywhere(self, chunk: int) -> None:
        for peer, seeder in sorted(self._seeders.items()):
            if chunk in seeder.owed:
                self.wasted_bytes += seeder.settled(chunk)
                self._effects.append(Cancel(peer, chunk))

    def _ask(self, now: float) -> None:
        """Ask everybody who has room, one chunk each in turn, beginning with who would give it first."""
        asked = {peer: seeder for peer, seeder in sorted(self._seeders.items()) if seeder.has_room(now)}
        while asked:
            for peer in self._quickest_first(asked, now):
                if not self._ask_one(peer, asked[peer], now):
                    del asked[peer]

    def _quickest_first(self, seeders: dict[PeerId, AskedSeeder], now: float) -> list[PeerId]:
        # By chance where they are equal, or all nodes would run to the same seeder for what is rare.
        ranks = {
            peer: (seeder.time_for(CHUNK_SIZE, now), self._rng.random()) for peer, seeder in seeders.items()
        }
        return sorted(ranks, key=ranks.__getitem__)

    def _ask_one(self, peer: PeerId, seeder: AskedSeeder, now: float) -> bool:
        """Whether `seeder` could be asked for one chunk more."""
        if not seeder.has_room(now):
            return False
        chunk = None if self._is_full else self._wanted.take(peer, self._rng)
        if chunk is None and not seeder.owed:
            # Only who stands idle takes from others: the rest has enough to do until the next look.
            chunk = self._take_over(peer, seeder, now)
        if chunk is None:
            return False
        seeder.asked(chunk, chunk_size(self._size_bytes, chunk), now)
        self._effects.append(Ask(peer, chunk))
        return True

    @property
    def _is_full(self) -> bool:
        under_way = len(self._arrived) + sum(len(seeder.owed) for seeder in self._seeders.values())
        return under_way >= self.under_way_max

    def _take_over(self, peer: PeerId, idle: AskedSeeder, now: float) -> int | None:
        """The chunk that others owe, and that would be here the most sooner from `peer`, if it is worth it.

        Taken from who has not begun it; of who has, it is asked for twice, if there is room for that.
        """
        best: tuple[float, int, PeerId] | None = None
        for other, slow in sorted(self._seeders.items()):
            for chunk, left in slow.times_until(now):
                here = idle.time_for(chunk_size(self._size_bytes, chunk), now)
                gain_min = self.config.gain_min if slow.owed[chunk].arrived else 0.0
                if left <= max(self.config.gain_factor * here, here + gain_min, best[0] if best else 0.0):
                    continue
                if gain_min and self._is_full:
                    continue
                if self._wanted.has(peer, chunk) and not self._is_owed_twice(chunk):
                    best = (left, chunk, other)
        if best is None:
            return None
        _, chunk, other = best
        self._seeders[other].was_late(now)
        if not self._seeders[other].owed[chunk].arrived:
            self._seeders[other].settled(chunk)
            self._effects.append(Cancel(other, chunk))
        return chunk

    def _is_owed_twice(self, chunk: int) -> bool:
        return sum(chunk in seeder.owed for seeder in self._seeders.values()) > 1

    def _set_timer(self, now: float) -> None:
        times = [seeder.rests_until for seeder in self._seeders.values() if seeder.rests_until > now]
        if any(seeder.owed for seeder in self._seeders.values()):
            times.append(now + self.config.look_interval)
        self._look_at = min(times, default=math.inf)
