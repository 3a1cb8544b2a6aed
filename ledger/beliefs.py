"""Beliefs: what we hold of each peer's life, and what of it is news.

Claims merge (see `rumour.py`), so it does not matter from whom or how often one is
heard. A suspect has a deadline; after it, it is called offline. What is said against
ourselves is taken back by raising our incarnation.

Nobody is offline because others say so. Of one that lives as far as we know, we believe no
complaint if we have a link to see for ourselves; if not, it is a suspect at most. So whoever is
accused has time to refute, with each of us, and a liar makes us ask and nothing worse.

What is learned is told on by how urgent it is: pushed and riding on frames (who fell, who
got up), riding only (a newcomer lives), or not at all (what everybody knew but us).

Asks nobody anything: `failure_detector.py` does. Nothing here costs more in a larger swarm,
but to answer for all claims, and to forget whom the ledger forgot.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger.claims_digest import ClaimsDigest
from ledger.deadlines import Deadlines
from ledger.liveness_config import LivenessConfig
from ledger.rumour import (
    IDLE_RETRANSMIT_FACTOR,
    INCARNATION_MAX,
    JUMP_MAX,
    UNKNOWN,
    Claim,
    Rumour,
    RumourQueue,
    Status,
    complaint,
    is_credible,
)
from p2p.peer import PeerId

STRANGERS_MAX = 4096
"""Whose lives are noted before the ledger names them: as many as it can hold (`state.py`). A newcomer hears
of everybody within a second or two of its first link, and of their records by another way."""

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
    digest: ClaimsDigest = field(default_factory=ClaimsDigest)
    """Of all claims, that on ourselves included."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    """When each suspect will be called offline."""
    _in_ledger: frozenset[PeerId] = frozenset()
    _linked: list[PeerId] = field(default_factory=list)
    """Sorted."""
    _alive: int = 0
    """How many of `peers`."""
    _urgent: RumourQueue = field(default_factory=RumourQueue)
    _idle: RumourQueue = field(default_factory=lambda: RumourQueue(IDLE_RETRANSMIT_FACTOR))
    _news: dict[PeerId, Claim] = field(default_factory=dict)
    _found: set[PeerId] = field(default_factory=set)
    """Those of `_news` that nobody told us."""
    _changed: dict[PeerId, Status] = field(default_factory=dict)
    _strangers: dict[PeerId, Claim] = field(default_factory=dict)
    """Who lives, they say; the last to be told of comes last."""

    def __post_init__(self) -> None:
        self.digest.change(self.me, UNKNOWN, self._own_claim)

    @property
    def _own_claim(self) -> Claim:
        return Claim(self.incarnation, Status.ALIVE)

    @property
    def is_view_partial(self) -> bool:
        """Whether peers live that have no link to us, and helpers none to them, though all is well."""
        return 0 < len(self._linked) < self._alive and self._alive > self.config.mesh_size_max

    @property
    def is_alone_among_many(self) -> bool:
        """Whether we hear from nobody, in a swarm where most were never linked to us."""
        return not self._linked and len(self.peers) > self.config.mesh_size_max

    def linked(self) -> list[PeerId]:
        """Whom we can talk to, sorted. Ours: not to be changed."""
        return self._linked

    def is_alive(self, peer: PeerId) -> bool:
        """Whether we believe so."""
        health = self.peers.get(peer)
        return health is not None and health.status is Status.ALIVE

    def helpers_for(self, target: PeerId) -> list[PeerId]:
        """Who could ask `target` for us, sorted."""
        return [peer for peer in self._linked if peer != target and self.is_alive(peer)]

    def claims(self) -> list[Rumour]:
        """All we hold, sorted by peer: that on ourselves too, and none that says nothing."""
        held = {peer: health.claim for peer, health in self.peers.items() if health.claim != UNKNOWN}
        held[self.me] = self._own_claim
        return [Rumour(peer, claim) for peer, claim in sorted(held.items())]

    def know(self, in_ledger: frozenset[PeerId], now: float) -> bool:
        """The ledger has records of exactly these peers. Whether some of them are new.

        That a new one lives may have been told before its record came.
        """
        gone = self._in_ledger - in_ledger
        self._in_ledger = in_ledger
        new = in_ledger - self.peers.keys() - {self.me}
        # Sorted, as are all who go through `peers`: the order of a set is another in each process.
        for peer in sorted(new):
            self.peers[peer] = PeerHealth()
            for rumour in self.news_among([Rumour(peer, self._strangers.pop(peer, UNKNOWN))]):
                self.learn(peer, rumour.claim, now)
        for peer in gone:
            self._forget_stranger(peer)
        return bool(new)

    def link(self, peer: PeerId) -> None:
        health = self.peers.setdefault(peer, PeerHealth())
        if not health.is_linked:
            health.is_linked = True
            insort(self._linked, peer)

    def unlink(self, peer: PeerId) -> None:
        health = self.peers.get(peer)
        if health is not None and health.is_linked:
            health.is_linked = False
            health.round_trip = None
            del self._linked[bisect_left(self._linked, peer)]
            self._forget_stranger(peer)

    def note_strangers(self, rumours: Iterable[Rumour]) -> None:
        """Keep for a while that somebody lives whom the ledger has not named: its record is on its way."""
        for rumour in rumours:
            if rumour.peer not in self.peers and rumour.peer != self.me and complaint(rumour.claim) is None:
                said_before = self._strangers.pop(rumour.peer, UNKNOWN)
                self._strangers[rumour.peer] = max(said_before, rumour.claim)
                if len(self._strangers) > STRANGERS_MAX:
                    del self._strangers[next(iter(self._strangers))]

    def news_among(self, rumours: Iterable[Rumour]) -> list[Rumour]:
        """Those of `rumours` that would change what we hold. The others are old, of strangers, or lies."""
        return [rumour for rumour in rumours if self._is_news(rumour.peer, rumour.claim)]

    def count_unknown(self, rumours: Iterable[Rumour]) -> int:
        """On how many of those peers we hold nothing."""
        healths = (self.peers.get(rumour.peer) for rumour in rumours)
        return sum(health is not None and health.claim == UNKNOWN for health in healths)

    def hear(self, rumours: Iterable[Rumour], now: float, *, is_missed: bool = False) -> list[Rumour]:
        """Merge what a neighbour told as news. Which of it we must see for ourselves, over our link.

        `is_missed`: it holds that for a while already, and says so because we asked. What replaces a
        claim of ours then rides on, for others may have missed it too; where we knew nothing, we alone
        were ignorant.
        """
        to_check = []
        for rumour in self.news_among(rumours):
            health = self.peers.get(rumour.peer)
            if health is None:
                self.refute(rumour.claim)
                continue
            is_to_check = complaint(rumour.claim) is not None and health.is_linked
            if is_to_check and health.status in (Status.ALIVE, Status.UNKNOWN):
                to_check.append(rumour)
            if not is_to_check or health.status is not Status.ALIVE:
                tell = self._catch_up_on if is_missed else self.learn
                tell(rumour.peer, _at_most(rumour.claim, health.status), now)
        return to_check

    def hear_itself(self, peer: PeerId, incarnation: int, now: float, *, is_pushed: bool) -> None:
        """`peer` said by its own mouth that it lives. Its word has no limits, for it can harm itself only.

        So it also puts right what a liar told us of it before we knew anything, and is believed however
        often liars made it refute; what is not pushed then rides on.
        """
        held, said = self.peers[peer].claim, Claim(incarnation, Status.ALIVE)
        if held.incarnation > incarnation + JUMP_MAX:
            self._believe(peer, said, now)
        elif is_pushed:
            self.learn(peer, said, now)
        elif said > held:
            self._believe(peer, said, now)
            self._ride(peer, said)

    def _catch_up_on(self, peer: PeerId, claim: Claim, now: float) -> None:
        held = self.peers[peer].claim
        if claim > held:
            self._believe(peer, claim, now)
            if held != UNKNOWN:
                self._ride(peer, claim)

    def answer_complaint(self, claim: Claim, *, is_pushed: bool) -> None:
        """A ping held `claim` against us. Its answer takes that back, however often it is asked.

        That costs whoever pinged no credit: a helper is not to pay for what it carries.
        """
        if self._is_news(self.me, claim):
            self._rise_above(claim)
            tell = self._spread if is_pushed else self._ride
            tell(self.me, self._own_claim)

    def refute(self, claim: Claim) -> None:
        """Take `claim` back, if it says that we are not well."""
        if complaint(claim) and claim.incarnation >= self.incarnation:
            self._rise_above(claim)
            self._spread(self.me, self._own_claim)

    def _rise_above(self, claim: Claim) -> None:
        before = self._own_claim
        self.incarnation = min(claim.incarnation + 1, INCARNATION_MAX)
        self.digest.change(self.me, before, self._own_claim)

    def learn(self, peer: PeerId, claim: Claim, now: float) -> None:
        """Merge `claim`, and spread it if it is news. What is said of strangers is dropped."""
        health = self.peers.get(peer)
        if health is None or claim <= health.claim:
            return
        is_newcomer = health.claim == UNKNOWN and claim.status is Status.ALIVE
        self._believe(peer, claim, now)
        if is_newcomer:
            # Whoever is linked to it met it too: only the others hear of it, and they can wait.
            self._idle.add(peer, claim)
        else:
            self._spread(peer, claim)

    def suspect(self, peer: PeerId, now: float) -> None:
        """We found out ourselves that it does not answer: all our neighbours should look."""
        self.learn(peer, Claim(self.peers[peer].claim.incarnation, Status.SUSPECT), now)
        self._found.add(peer)

    def lose_sight(self, peer: PeerId) -> None:
        """We cannot know any more whether it lives: nothing is held against it, and nothing told of it."""
        self._hold(peer, self.peers[peer], UNKNOWN)
        self._drop_rumours(peer)

    def said_bye(self, peer: PeerId, now: float) -> None:
        """Believe it at once. It says so to all its neighbours itself: the others can wait."""
        if peer in self.peers:
            claim = Claim(max(0, self.peers[peer].claim.incarnation), Status.OFFLINE)
            self._believe(peer, claim, now)
            # In place of an older one, that it lives, which would still be told on.
            self._ride(peer, claim)

    def expire(self, now: float) -> None:
        """Call those offline who did not refute in time. Who suspects them too does the same by itself."""
        for peer in self.deadlines.due(now):
            self.learn(peer, Claim(self.peers[peer].claim.incarnation, Status.OFFLINE), now)

    def rumours_to_ride(self, count_max: int) -> tuple[Rumour, ...]:
        """What goes along with the next frame."""
        swarm_size = len(self.peers) + 1
        urgent = self._urgent.take(count_max, swarm_size)
        return urgent + self._idle.take(count_max - len(urgent), swarm_size)

    def take_news(self) -> list[tuple[Rumour, bool]]:
        """What was learned since the last call and should be pushed; whether we found it out ourselves."""
        if not self._news:
            return []
        news, self._news = self._news, {}
        found, self._found = self._found, set()
        return [(Rumour(peer, claim), peer in found) for peer, claim in sorted(news.items())]

    def take_changed(self) -> list[tuple[PeerId, Status]]:
        """Whose status is another than at the last call."""
        changed, self._changed = self._changed, {}
        return sorted(changed.items())

    def forget_rumours(self) -> None:
        """Whom we could tell is gone: what we believe now is worth nothing to those we meet later."""
        self._urgent.clear()
        self._idle.clear()

    def _is_news(self, peer: PeerId, claim: Claim) -> bool:
        if peer == self.me:
            is_new = complaint(claim) is not None and claim.incarnation >= self.incarnation
            return is_new and is_credible(claim, self.incarnation)
        health = self.peers.get(peer)
        return health is not None and claim > health.claim and is_credible(claim, health.claim.incarnation)

    def _believe(self, peer: PeerId, claim: Claim, now: float) -> None:
        health = self.peers[peer]
        self._hold(peer, health, claim)
        self.deadlines.drop(peer)
        if claim.status is Status.SUSPECT:
            doublings = math.log2(len(self.peers) + 1)
            patience = max(self.config.suspicion_min, self.config.suspicion_per_doubling * doublings)
            self.deadlines.set(peer, now + patience)

    def _hold(self, peer: PeerId, health: PeerHealth, claim: Claim) -> None:
        if claim.status is not health.status:
            self._changed[peer] = claim.status
            self._alive += (claim.status is Status.ALIVE) - (health.status is Status.ALIVE)
        self.digest.change(peer, health.claim, claim)
        health.claim = claim

    def _spread(self, peer: PeerId, claim: Claim) -> None:
        self._news[peer] = claim
        self._ride(peer, claim)

    def _ride(self, peer: PeerId, claim: Claim) -> None:
        self._idle.drop(peer)
        self._urgent.add(peer, claim)

    def _forget_stranger(self, peer: PeerId) -> None:
        """Drop whom neither the ledger nor a link knows: nothing grows with those who passed by."""
        health = self.peers.get(peer)
        if health is None or health.is_linked or peer in self._in_ledger:
            return
        self._hold(peer, health, UNKNOWN)
        del self.peers[peer]
        self._drop_rumours(peer)
        self._changed.pop(peer, None)

    def _drop_rumours(self, peer: PeerId) -> None:
        self.deadlines.drop(peer)
        self._urgent.drop(peer)
        self._idle.drop(peer)
        self._news.pop(peer, None)
        self._found.discard(peer)


def _at_most(claim: Claim, held: Status) -> Claim:
    """What may be believed of `claim` at once about one whose life we hold to be that."""
    if claim.status is Status.OFFLINE and held in (Status.ALIVE, Status.SUSPECT):
        return Claim(claim.incarnation, Status.SUSPECT)
    return claim
