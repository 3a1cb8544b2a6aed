"""Finder: whom this node dials, and why.

    too few neighbours    -->  somebody who is due, by chance
    now and then          -->  a feeler: somebody, whoever it is
    a caller waits        -->  that one, at once, at each of its places, for a bounded time

`neighbours.py` says how many, `address_book.py` where. A caller hears of each peer it waits
for once: that it was admitted, or that it was not reached.

Pure, as both are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from p2p.address_book import AddressBook
from p2p.admission_events import Dial, Unreached
from p2p.neighbours import Neighbours
from p2p.peer import PeerId

FIND_TIME_MAX = 5.0
"""Seconds a caller waits. A dial and a hello take a tenth of that on a machine that is swapping; for who
needs longer a request has better places to go to."""

AWAITED_MAX = 64
"""Peers waited for at once. A front asks three before it gives up, so that is twenty requests in their
first second, all to machines that it never spoke to."""


@dataclass(slots=True)
class Finder:
    """Whom to dial now. Reads no clock, dials nobody."""

    book: AddressBook
    neighbours: Neighbours
    _awaited: dict[PeerId, float] = field(default_factory=dict)
    """Until when; in that order."""

    def seek(self, peer: PeerId, now: float, *, is_here: bool) -> Iterator[Unreached]:
        """Look for `peer`, which a caller waits for. `is_here`: it is connected, and may be admitted yet."""
        if peer in self.neighbours.peers:
            return  # It is a member: there is nothing to wait for.
        if peer not in self._awaited:
            if len(self._awaited) >= AWAITED_MAX:
                yield Unreached(peer)
                return
            self._awaited[peer] = now + FIND_TIME_MAX
            self.book.seek(peer)
        if not is_here:
            yield from self.missed(peer)

    def found(self, peer: PeerId) -> None:
        """`peer` was admitted."""
        self._awaited.pop(peer, None)

    def missed(self, peer: PeerId) -> Iterator[Unreached]:
        """A dial of `peer`, or its connection, came to nothing: that is all, unless another dial follows."""
        if not self.book.is_sought(peer) and self._awaited.pop(peer, None) is not None:
            yield Unreached(peer)

    def give_up(self, until: float = inf) -> Iterator[Unreached]:
        """Those that are waited for no longer than `until`."""
        for peer in [peer for peer, deadline in self._awaited.items() if deadline <= until]:
            del self._awaited[peer]
            self.book.give_up(peer)
            yield Unreached(peer)

    def next_dials(self, arriving: int, now: float) -> list[Dial]:
        """Where to dial now. `arriving` were dialled, and may still prove to be members."""
        dials = self.book.next_dials(now, self._wanted(arriving))
        # Also while others are wanted: those that are due may all be inventions, and dialled in vain.
        if self.neighbours.next_feeler(now):
            dials += self.book.feeler(now)
        return [Dial(address) for address in dials]

    def next_wake(self, arriving: int) -> float:
        """When to ask again, or to `give_up`, if nothing happens until then."""
        return min(
            self.neighbours.wake_at,
            self.book.next_wake() if self._wanted(arriving) else inf,
            next(iter(self._awaited.values()), inf),
        )

    def _wanted(self, arriving: int) -> int:
        return self.neighbours.wanted(self.book.stranger_count, arriving + len(self.book.dialling))
