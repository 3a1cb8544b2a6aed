"""Beliefs: what we hold of each peer's life, and what of it is news.

Claims merge (see `rumour.py`), so it does not matter from whom or how often one is
heard. A suspect has a deadline; after it, it is called offline. What is said against
ourselves is taken back by raising our incarnation.

Asks nobody anything: `failure_detector.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger.liveness_config import LivenessConfig
from ledger.rumour import INCARNATION_MAX, UNKNOWN, Claim, Rumour, RumourQueue, Status
from p2p.peer import PeerId

_ROUND_TRIP_GAIN = 0.125
"""Weight of a new measurement: the one TCP uses (RFC 6298)."""


@dataclass(slots=True)
class PeerHealth:
    """What is known of one peer's life."""

    claim: Claim = UNKNOWN
    is_linked: bool = False
    """We have a probe stream to it."""
    heard_at: float | None = None
    """When its last frame came."""
    round_trip: float | None = None
    """Seconds, smoothed."""

    @property
    def status(self) -> Status:
        return self.claim.status

    def measured(self, round_trip: float) -> None:
        if self.round_trip is None:
            self.round_trip = round_trip
        else:
            self.round_trip += _ROUND_TRIP_GAIN * (round_trip - self.round_trip)


@dataclass(slots=True)
class Beliefs:
    """Whom we know of, and how alive each is."""

    me: PeerId
    config: LivenessConfig
    incarnation: int = 0
    """Our own."""
    peers: dict[PeerId, PeerHealth] = field(default_factory=dict)
    _in_ledger: frozenset[PeerId] = frozenset()
    _offline_at: dict[PeerId, float] = field(default_factory=dict)
    """When each suspect will be called offline."""
    _rumours: RumourQueue = field(default_factory=RumourQueue)
    _news: dict[PeerId, Claim] = field(default_factory=dict)
    _changed: dict[PeerId, Status] = field(default_factory=dict)

    @property
    def deadlines(self) -> Iterable[float]:
        """When suspects will be called offline."""
        return self._offline_at.values()

    def linked(self) -> list[PeerId]:
        """Whom we can talk to, sorted."""
        return sorted(peer for peer, health in self.peers.items() if health.is_linked)

    def helpers_for(self, target: PeerId) -> list[PeerId]:
        """Who could ask `target` for us, sorted."""
        return [peer for peer in self.linked() if peer != target and self.peers[peer].status is Status.ALIVE]

    def know(self, in_ledger: frozenset[PeerId]) -> None:
        """The ledger has records of exactly these peers."""
        self._in_ledger = in_ledger
        for peer in in_ledger - self.peers.keys() - {self.me}:
            self.peers[peer] = PeerHealth()
        self._forget_strangers()

    def link(self, peer: PeerId) -> None:
        self.peers.setdefault(peer, PeerHealth()).is_linked = True

    def unlink(self, peer: PeerId) -> None:
        if peer in self.peers:
            self.peers[peer].is_linked = False
            self.peers[peer].round_trip = None
            self._forget_strangers()

    def hear(self, rumours: Iterable[Rumour], now: float) -> None:
        for rumour in rumours:
            if rumour.peer == self.me:
                self.refute(rumour.claim)
            else:
                self.learn(rumour.peer, rumour.claim, now)

    def refute(self, claim: Claim) -> None:
        """Take `claim` back, if it says that we are not well."""
        if claim.status is not Status.ALIVE and claim.incarnation >= self.incarnation:
            self.incarnation = min(claim.incarnation + 1, INCARNATION_MAX)
            self._spread(self.me, Claim(self.incarnation, Status.ALIVE))

    def learn(self, peer: PeerId, claim: Claim, now: float) -> None:
        """Merge `claim`, and spread it if it is news. What is said of strangers is dropped."""
        health = self.peers.get(peer)
        if health is None or claim <= health.claim:
            return
        # That a peer we never met is alive is no news: everybody meets it for himself.
        is_news = health.claim != UNKNOWN or claim.status is not Status.ALIVE
        self._believe(peer, claim, now)
        if is_news:
            self._spread(peer, claim)

    def suspect(self, peer: PeerId, now: float) -> None:
        self.learn(peer, Claim(self.peers[peer].claim.incarnation, Status.SUSPECT), now)

    def said_bye(self, peer: PeerId, now: float) -> None:
        """Believe it at once. No rumour: it says so to everybody itself."""
        if peer in self.peers:
            self._believe(peer, Claim(max(0, self.peers[peer].claim.incarnation), Status.OFFLINE), now)

    def expire(self, now: float) -> None:
        """Call those offline who did not refute in time."""
        for peer in sorted(peer for peer, deadline in self._offline_at.items() if deadline <= now):
            self.learn(peer, Claim(self.peers[peer].claim.incarnation, Status.OFFLINE), now)

    def postpone(self, by: float, not_before: float) -> None:
        """Call nobody offline for this much longer, and in no case before that time."""
        for peer, deadline in self._offline_at.items():
            self._offline_at[peer] = max(deadline + by, not_before)

    def rumours_to_ride(self, count_max: int) -> tuple[Rumour, ...]:
        """What goes along with the next frame."""
        return self._rumours.take(count_max, len(self.peers) + 1)

    def take_news(self) -> list[Rumour]:
        """What was learned since the last call and should be pushed."""
        news, self._news = self._news, {}
        return [Rumour(peer, claim) for peer, claim in sorted(news.items())]

    def take_changed(self) -> list[tuple[PeerId, Status]]:
        """Whose status is another than at the last call."""
        changed, self._changed = self._changed, {}
        return sorted(changed.items())

    def forget_rumours(self) -> None:
        """Whom we could tell is gone: what we believe now is worth nothing to those we meet later."""
        self._rumours.clear()

    def _believe(self, peer: PeerId, claim: Claim, now: float) -> None:
        health = self.peers[peer]
        if claim.status is not health.status:
            self._changed[peer] = claim.status
        health.claim = claim
        self._offline_at.pop(peer, None)
        if claim.status is Status.SUSPECT:
            doublings = math.log2(len(self.peers) + 1)
            self._offline_at[peer] = now + max(
                self.config.suspicion_min, self.config.suspicion_per_doubling * doublings
            )

    def _spread(self, peer: PeerId, claim: Claim) -> None:
        self._news[peer] = claim
        self._rumours.add(peer, claim)

    def _forget_strangers(self) -> None:
        """Drop whom neither the ledger nor a link knows: nothing grows with those who passed by."""
        for peer in self.peers.keys() - self._in_ledger:
            if not self.peers[peer].is_linked:
                del self.peers[peer]
                self._offline_at.pop(peer, None)
                self._rumours.drop(peer)
                self._news.pop(peer, None)
                self._changed.pop(peer, None)
