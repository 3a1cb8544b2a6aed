"""Wanted chunks: those that are still to be asked for, and which of them a seeder should be asked for first.

The rarest: what few have is the first to be lost with them, and whoever gets it becomes worth asking. Of
equally rare ones those of our share, every k-th chunk where k fetch the file as far as we see: all come by
different chunks of the same seeder, and give them to each other. Within that by chance, as who has just begun
is not seen yet. What everybody has nobody waits for: it is taken in order, so that the sha256 of the whole
grows with the file and is not all to be done at its end.

Chunks are bits of whole numbers, one number for those that no seeder has, one for those that one has, and so
on: what is said of many chunks at once costs as much as what is said of one, and a file may be of any size.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from p2p.blobs.have_map import HaveMap
from p2p.peer import PeerId

_BY_CHANCE = 4
"""Chunks that are taken by chance in any case: others may be fetching the same, and not be known yet."""


class WantedChunks:
    """Of a file of `chunk_count`. Begins with none."""

    def __init__(self, chunk_count: int, me: PeerId) -> None:
        self._chunk_count = chunk_count
        self._me = me
        self._levels: list[int] = [0]
        """The wanted ones that 0, 1, 2 ... seeders have."""
        self._has: dict[PeerId, int] = {}
        """What each seeder has, wanted or not."""
        self._taken = 0

    def __len__(self) -> int:
        return sum(level.bit_count() for level in self._levels)

    @property
    def nobody_has(self) -> int:
        """How many of them no seeder has."""
        return self._levels[0].bit_count()

    def has(self, peer: PeerId, chunk: int) -> bool:
        """Whether `peer` has `chunk`, wanted or not."""
        return bool(self._has.get(peer, 0) & self._bit(chunk))

    def add(self, chunks: Iterable[int]) -> None:
        """These are to be asked for too."""
        added = self._bits(chunks)
        for level in self._levels:
            added &= ~level
        levels = [added]
        for has in self._has.values():
            _raise(levels, has)
        self._levels += [0] * (len(levels) - len(self._levels))
        for number, level in enumerate(levels):
            self._levels[number] |= level

    def discard(self, chunk: int) -> None:
        """`chunk` is not to be asked for."""
        bit = self._bit(chunk)
        self._levels = [level & ~bit for level in self._levels]

    def seeder_has(self, peer: PeerId, has: HaveMap) -> None:
        """`peer` has these, and no others."""
        self.seeder_gone(peer)
        packed = has.to_bytes()
        # The first chunk is the highest bit there; so it is here.
        self._has[peer] = int.from_bytes(packed, "big") >> len(packed) * 8 - self._chunk_count
        _raise(self._levels, self._has[peer])

    def seeder_gained(self, peer: PeerId, chunks: Iterable[int]) -> None:
        """`peer` has these too."""
        gained = self._bits(chunks) & ~self._has[peer]
        self._has[peer] |= gained
        _raise(self._levels, gained)

    def seeder_lacks(self, peer: PeerId, chunk: int) -> None:
        """`peer` does not have `chunk`, whatever it said."""
        lost = self._has.get(peer, 0) & self._bit(chunk)
        if lost:
            self._has[peer] ^= lost
            _lower(self._levels, lost)

    def seeder_gone(self, peer: PeerId) -> None:
        """`peer` has nothing any more."""
        _lower(self._levels, self._has.pop(peer, 0))

    def take(self, peer: PeerId, rng: Random) -> int | None:
        """One that `peer` has, the rarest there is; it is not wanted any more. None: it has none of them."""
        has = self._has.get(peer, 0)
        for number, level in enumerate(self._levels):
            if candidates := level & has:
                # Who begins together with us is not seen at first.
                if number == len(self._has) and self._taken >= _BY_CHANCE:
                    place = candidates.bit_length() - 1
                else:
                    candidates = (candidates & self._our_share()) or candidates
                    place = _place_of_one(candidates, rng.randrange(candidates.bit_count()))
                self._taken += 1
                self._levels[number] ^= 1 << place
                return self._chunk_count - 1 - place
        return None

    def _our_share(self) -> int:
        """Of k that fetch, the i-th by its id has every k-th chunk, from the i-th on."""
        others = (peer for peer, has in self._has.items() if has.bit_count() < self._chunk_count)
        fetchers = sorted([self._me, *others])
        k, times = len(fetchers), -(-self._chunk_count // len(fetchers))
        every_kth = ((1 << k * times) - 1) // ((1 << k) - 1)
        return every_kth << fetchers.index(self._me)

    def _bit(self, chunk: int) -> int:
        return 1 << self._chunk_count - 1 - chunk

    def _bits(self, chunks: Iterable[int]) -> int:
        # By way of a map: to put half a million bits into one number, one after the other, takes seconds.
        have = HaveMap(self._chunk_count)
        for chunk in chunks:
            have.add(chunk)
        packed = have.to_bytes()
        return int.from_bytes(packed, "big") >> len(packed) * 8 - self._chunk_count


def _raise(levels: list[int], chunks: int) -> None:
    """One seeder more has `chunks`."""
    levels.append(0)
    for number in reversed(range(len(levels) - 1)):
        moved = levels[number] & chunks
        levels[number] ^= moved
        levels[number + 1] |= moved
    while len(levels) > 1 and not levels[-1]:
        levels.pop()


def _lower(levels: list[int], chunks: int) -> None:
    """One seeder fewer has `chunks`. Those that nobody had must not be among them."""
    for number in range(1, len(levels)):
        moved = levels[number] & chunks
        levels[number] ^= moved
        levels[number - 1] |= moved


def _place_of_one(bits: int, index: int) -> int:
    """Where the one is that has `index` ones below it."""
    place, width = 0, bits.bit_length()
    while width > 1:
        half = width // 2
        low = bits & (1 << half) - 1
        if (below := low.bit_count()) <= index:
            bits, place, index, width = bits >> half, place + half, index - below, width - half
        else:
            bits, width = low, half
    return place
