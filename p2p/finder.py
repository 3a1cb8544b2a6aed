"""Finder: whom this node dials, and why.

    too few neighbours    -->  somebody who is due, by chance
    now and then          -->  a feeler: somebody, whoever it is
    a caller waits        -->  that one, at once, at each of its places, for a bounded time

`neighbours.py` says how many, `address_book.py` where. Of those a caller waits for, whoever
uses this says when they are found, or gone again.

Pure, as both are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from p2p.address_book import AddressBook
from p2p.neighbours import Neighbours
from p2p.peer import PeerAddress, PeerId

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

    def seek(self, peer: PeerId, now: float) -> bool:
        """Look for `peer`, which a caller waits for. False: too many are waited for."""
        if peer not in self._awaited:
            if len(self._awaited) >= AWAITED_MAX:
                return False
            self._awaited[peer] = now + FIND_TIME_MAX
            self.book.seek(peer)
        return True

    def stop(self, peer: PeerId) -> bool:
        """Nobody waits for `peer` any more; False if nobody did."""
        return self._awaited.pop(peer, None) is not None

    def awaited(self, until: float = inf) -> list[PeerId]:
        """Who is waited for no longer than `until`."""
        return [peer for peer, deadline in self._awaited.items() if deadline <= until]

    def next_dials(self, arriving: int, now: float) -> list[PeerAddress]:
        """Where to dial now. `arriving` are connected, and may still prove to be members."""
        wanted = self._wanted(arriving)
        dials = self.book.next_dials(now, wanted)
        if self.neighbours.next_feeler(now) and not wanted:
            dials += self.book.feeler(now)
        return dials

    def next_wake(self, arriving: int) -> float:
        """When to ask again, or to look at `awaited`, if nothing happens until then."""
        return min(
            self.neighbours.wake_at,
            self.book.next_wake() if self._wanted(arriving) else inf,
            next(iter(self._awaited.values()), inf),
        )

    def _wanted(self, arriving: int) -> int:
        return self.neighbours.wanted(self.book.stranger_count, arriving + len(self.book.dialling))
