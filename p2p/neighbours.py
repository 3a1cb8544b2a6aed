"""Neighbours: to how many members a node stays connected, and whom it lets go.

    others there are     up to max            more
    dial                 all of them          somebody by chance, while below min
    let go               nobody               somebody by chance for each above max
    feeler               none                 now and then somebody, whoever it is

HyParView's active view, kept by chance instead of by walks: everybody has about as many
links, to anybody, so the swarm holds together however many of it die. Its passive view
is the address book. A newcomer is never turned away: it is let in, and another one goes.

Chance alone would let whoever comes with many identities take the place of all others. So
those that stand longest are never let go: some that this node chose itself, by dialling
them, and some that chose it, which are what the other end calls chosen. Who holds an
invite may fill the rest of the view, and what of it is empty when it comes first.

It counts, and knows no addresses: whoever uses it chooses among those it knows.
Reads no clock; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, field
from math import inf
from random import Random

from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class NeighboursConfig:
    """Counts and seconds of a node's view of its swarm."""

    min: int = 24
    """Links to random members. A random graph holds together from ln n links on, and ln 4096 is 8.3:
    with 24, half of the swarm may die in one moment, and 12 are left."""
    max: int = 32
    """A third above `min`: a newcomer, or a peer that lets us go, asks for nothing more. Up to 33 nodes,
    as in any home, everybody is connected to everybody."""
    feeler_interval: float = 30.0
    """Between dials of somebody by chance. One dial in 30 s costs nothing, and of a thousand nodes it
    makes 33 a second: two halves that were apart are one again within a second or two, and a peer whose
    return nobody waits for is met within half a minute."""
    settle_time: float = 5.0
    """A new neighbour is not let go before: it hears where the others are, and gets its first round of
    the ledger, within two seconds on a slow link."""
    look_interval: float = 1.0
    """Between looks for somebody to let go, while there are too many and all of them are new or in use."""

    def __post_init__(self) -> None:
        assert 0 < self.min <= self.max

    @property
    def reserve(self) -> int:
        """Of those we dialled, and of those that dialled us, so many that stand longest stay. Two times eight
        hold a swarm of a thousand together, and half of the view is left to newcomers."""
        return self.max // 4


@dataclass(frozen=True, slots=True)
class _Neighbour:
    since: float
    is_chosen: bool
    """We dialled it."""


@dataclass(slots=True)
class Neighbours:
    """Those a node is connected to: whether to find more, whom to let go. Reads no clock."""

    rng: Random
    config: NeighboursConfig = field(default_factory=NeighboursConfig)
    _links: dict[PeerId, _Neighbour] = field(default_factory=dict)
    _feeler_at: float = inf
    _look_at: float = inf

    @property
    def peers(self) -> Collection[PeerId]:
        """All of them, the longest here first."""
        return self._links.keys()

    @property
    def wake_at(self) -> float:
        """When `next_feeler` or `let_go` will have something new to say, if nothing happens until then."""
        return min(self._feeler_at, self._look_at)

    def came(self, peer: PeerId, now: float, *, is_chosen: bool) -> None:
        """`peer` is a neighbour from now on. `is_chosen`: we dialled it."""
        self._links[peer] = _Neighbour(now, is_chosen)
        if self._feeler_at == inf:
            self._feeler_at = now + self._feeler_delay()
        if self._surplus > 0:
            self._look_at = now

    def went(self, peer: PeerId) -> None:
        """`peer` is no neighbour any more, whoever of us ended it."""
        self._links.pop(peer, None)

    def wanted(self, strangers: int, under_way: int) -> int:
        """How many strangers to dial now, by chance among equals.

        `strangers` are those we know, are not connected to, and have no reason to think gone;
        `under_way` are dials of ours, and what may still come of them.
        """
        is_small = len(self._links) + strangers <= self.config.max
        aim = self.config.max if is_small else self.config.min
        chosen = sum(neighbour.is_chosen for neighbour in self._links.values())
        lacking = max(aim - len(self._links), min(strangers, self.config.reserve - chosen))
        return max(0, lacking - under_way)

    def next_feeler(self, now: float) -> bool:
        """Whether to dial one stranger by chance now, whoever it is, even one that is thought gone.

        True once each time.
        """
        if now < self._feeler_at:
            return False
        self._feeler_at = now + self._feeler_delay()
        return True

    def let_go(self, in_use: Container[PeerId], now: float) -> list[PeerId]:
        """Whom to say goodbye to now, because there are too many; call `went` when it is said.

        Never one of the reserve. Nor one of those `in_use`, or that has just come, up to a bound: it is the
        peer who decides to use us, and when to come. In a rush, twice too many, all but the newest may go:
        who is left is a sample of them all, and the next to come hears of it.
        """
        if now < self._look_at:
            return []
        surplus, settled = self._surplus, now - self.config.settle_time
        if surplus <= 0:
            self._look_at = inf
            return []
        reserve = self._reserve()
        free = [peer for peer in self._links if peer not in reserve]
        ripe = [peer for peer in free if self._links[peer].since <= settled]
        idle = [peer for peer in ripe if peer not in in_use]
        gone = self._sample(idle, surplus)
        busy = [peer for peer in ripe if peer in in_use]
        gone += self._sample(busy, surplus - len(gone) - self.config.max // 2)
        new = [peer for peer in free if self._links[peer].since > settled][:-1]
        gone += self._sample(new, surplus - len(gone) - self.config.max)
        self._look_at = now + self.config.look_interval if len(gone) < surplus else inf
        return gone

    def _sample(self, peers: list[PeerId], count: int) -> list[PeerId]:
        return self.rng.sample(peers, max(0, min(count, len(peers))))

    def _reserve(self) -> set[PeerId]:
        """Who stays whatever comes. Age is the same at both ends: old links last, and nobody flaps."""
        chosen = [peer for peer, neighbour in self._links.items() if neighbour.is_chosen]
        others = [peer for peer, neighbour in self._links.items() if not neighbour.is_chosen]
        return {*chosen[: self.config.reserve], *others[: self.config.reserve]}

    @property
    def _surplus(self) -> int:
        return len(self._links) - self.config.max

    def _feeler_delay(self) -> float:
        """Uneven, so that a swarm which started together does not feel around together."""
        return self.config.feeler_interval * self.rng.uniform(0.5, 1.5)
