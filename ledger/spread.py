"""How entries spread: pushed at once to a few, and reconciled with one peer after the other.

    Wrote ------------------------> pushed to a few live peers
    MessageReceived (news) -------> what was new to us is pushed on to a few others
    TimerFired, once a second ----> a round with one random peer
    LinkOpened -------------------> a round, which for a newcomer is everything

Pushes make it quick: each who learns of a write tells six others, so five steps reach a
thousand nodes. Rounds make it certain: whatever was lost, one finds it. Most go to peers
that are alive; now and then one goes to a suspect, so that two that have lost sight of
each other, each thinking the other gone, still compare notes.

A link is an open stream of `/localai-node/ledger/1`. Messages are not sent but fetched
(`next_message`) as its stream takes them: `sync.py` says why that bounds everything.
Reads no clock, sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeAlias

from ledger.allowance import Allowances
from ledger.entry import Place
from ledger.errors import BadEntry
from ledger.exchange_turn import ExchangeTurn
from ledger.floor import is_floor
from ledger.state import EVERYDAY, Applied, LedgerState, RefusalReason, Refused
from ledger.sync import SyncSession, answer_size
from ledger.sync_messages import Buckets, Entries, Holdings, Message, News, Owners
from p2p.errors import BadFrame
from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class SpreadConfig:
    """Counts, and durations in seconds."""

    push_peers: int = 6
    """Who gets a new entry at once. In a swarm of seven that is everybody; in a larger one each passes
    it on to six more, which leaves out one in e**6 = 400, and a round finds that one."""
    round_interval: float = 1.0
    """Between two rounds that we begin; a round between equals is one frame of 40 bytes."""
    news_burst: int = 1024
    """News of one peer that is passed on at once; what comes beyond is kept, and rounds carry it. A thousand
    nodes that start together are ten thousand entries, which come in over thirty links."""
    news_rate: float = 64.0
    """The same a second after that. Who writes without end makes the rest say little of it: what is passed on
    is the newest of each key."""
    answer_burst: float = 8 * 1024 * 1024
    """Bytes that a peer is sent in answers at once: a newcomer gets the ledger of a swarm of a thousand in
    one go. Digests count too: seventy bytes ask for all that one owner holds, which may be 200 KB of keys."""
    answer_rate: float = 1024 * 1024
    """The same a second after that: asking without end costs us one part in a hundred of a gigabit link."""
    doubtful_every: int = 8
    """One round in so many goes to a peer that we have doubts about, if there is one."""


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """There is a stream to `peer`."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class LinkLost:
    """It has ended."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """`message` came over the link to `peer`."""

    peer: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Wrote:
    """We wrote what stands at `place` now."""

    place: Place


@dataclass(frozen=True, slots=True)
class LastWordSaid:
    """What stands at our `key` must go to every peer before we go, and what we left behind with it."""

    key: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """`wake_at` is here."""


Event: TypeAlias = LinkOpened | LinkLost | MessageReceived | Wrote | LastWordSaid | TimerFired


@dataclass(frozen=True, slots=True)
class SendDue:
    """There is something for `peer`: call `next_message` until it returns None."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Complaint:
    """`peer` sent what was refused for a reason worth telling, the first time over this link."""

    peer: PeerId
    refused: Refused


@dataclass(frozen=True, slots=True)
class CutOff:
    """`peer` broke the protocol: end the link."""

    peer: PeerId
    why: str


Effect: TypeAlias = SendDue | Complaint | CutOff


class Replicated(Protocol):
    """What is spread: a `Replica`, or a `Ledger` around one."""

    @property
    def me(self) -> PeerId: ...

    @property
    def state(self) -> LedgerState: ...

    def receive(self, encoded: bytes, source: PeerId) -> Applied | Refused:
        """Take in an entry. Raises BadEntry where it is none."""

    def refuse(self, reason: RefusalReason) -> Refused:
        """Count what was refused and is no entry."""


@dataclass(slots=True)
class _Link:
    session: SyncSession
    complaints: set[RefusalReason] = field(default_factory=set)


class Spread:
    """Give it every event, carry out every effect, and fire its timer at `wake_at`."""

    def __init__(
        self,
        replica: Replicated,
        is_doubtful: Callable[[PeerId], bool],
        rng: Random,
        config: SpreadConfig | None = None,
    ) -> None:
        """`is_doubtful`: whether a peer is suspect, or believed offline."""
        self.config = config or SpreadConfig()
        self._replica = replica
        self._is_doubtful = is_doubtful
        self._rng = rng
        self._links: dict[PeerId, _Link] = {}
        self._news = Allowances(self.config.news_burst, self.config.news_rate)
        """How much of what comes from each peer is passed on."""
        self._answers = Allowances(self.config.answer_burst, self.config.answer_rate)
        """How many bytes each peer gets that it asked for."""
        self._turn = ExchangeTurn()
        self._round_at = math.inf
        """Nothing is due before the first event."""
        self._rounds = 0

    @property
    def wake_at(self) -> float:
        """When to fire the timer, unless an event comes first."""
        return self._round_at

    @property
    def debts(self) -> int:
        """How many things we owe to all peers together."""
        return sum(link.session.debts for link in self._links.values())

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event`."""
        if self._round_at == math.inf:
            self._set_round(now)
        match event:
            case LinkOpened(peer):
                return self._on_link_opened(peer)
            case LinkLost(peer):
                self._links.pop(peer, None)
            case MessageReceived(peer, message) if peer in self._links:
                return self._on_message(peer, message, now)
            case Wrote(place):
                return self._push(self._few(), place)
            case LastWordSaid(key):
                return self._on_last_word(key)
            case TimerFired() if now >= self._round_at:
                return self._on_round(now)
        return []

    def next_message(self, peer: PeerId, now: float) -> Message | None:
        """The next for `peer`, or None if there is none now."""
        link = self._links.get(peer)
        if link is None:
            return None
        allowance = self._answers.of(peer, now)
        message = link.session.next_message(may_answer=allowance.left(now) > 0)
        if message is not None:
            allowance.spend(answer_size(message), now)
        return message

    def owes_news(self, peer: PeerId) -> bool:
        """Whether something was pushed to `peer` that no message has taken along yet."""
        return peer in self._links and self._links[peer].session.owes_news

    def _on_link_opened(self, peer: PeerId) -> list[Effect]:
        session = SyncSession(self._replica.state)
        self._links[peer] = _Link(session)  # A second one replaces the first.
        if self._replica.me > peer:
            return []  # One of the two is enough to compare.
        session.begin_round()
        return [SendDue(peer)]

    def _on_message(self, peer: PeerId, message: Message, now: float) -> list[Effect]:
        link = self._links[peer]
        try:
            carried = link.session.handle(message, may_ask=self._may_ask(peer, message, now))
        except BadFrame as error:
            return [CutOff(peer, str(error))]
        effects: list[Effect] = []
        is_question = carried is None
        if is_question and link.session.owes_answers and self._answers.of(peer, now).left(now) <= 0:
            effects += self._complain(peer, self._replica.refuse("asks_too_much"))
        for encoded in carried.encoded if carried is not None else ():
            try:
                outcome = self._replica.receive(encoded, peer)
            except BadEntry as error:
                return [*effects, CutOff(peer, str(error))]
            match outcome:
                case Applied(entry) if entry.owner != self._replica.me:
                    # From its owner it is news too: a newcomer wrote it before it had anybody to tell.
                    is_news = isinstance(carried, News) or entry.owner == peer
                    if is_news and self._news.of(peer, now).take(1, now):
                        effects += self._push(self._few(besides=peer), entry.place)
                case Refused("bad_signature"):
                    cut_off = CutOff(peer, "it passed on an entry that its owner did not sign")
                    return [*effects, Complaint(peer, outcome), cut_off]
                case Refused():
                    effects += self._complain(peer, outcome)
        return [*effects, SendDue(peer)]

    def _complain(self, peer: PeerId, refused: Refused) -> list[Effect]:
        complaints = self._links[peer].complaints
        if refused.reason in EVERYDAY or refused.reason in complaints:
            return []
        complaints.add(refused.reason)
        return [Complaint(peer, refused)]

    def _on_last_word(self, key: str) -> list[Effect]:
        me = self._replica.me
        floors = [entry.place for entry in self._replica.state.entries_of(me) if is_floor(entry)]
        return [
            effect for place in (Place(me, key), *floors) for effect in self._push(sorted(self._links), place)
        ]

    def _may_ask(self, peer: PeerId, message: Message, now: float) -> bool:
        if isinstance(message, Buckets | Owners):
            return self._turn.take(peer, now)
        if isinstance(message, Holdings | Entries):
            self._turn.heard(peer, now)
        return True

    def _on_round(self, now: float) -> list[Effect]:
        self._set_round(now)
        self._rounds += 1
        # Who was out of allowance has more of it by now.
        waiting = sorted(peer for peer, link in self._links.items() if link.session.owes_answers)
        effects: list[Effect] = [SendDue(peer) for peer in waiting]
        peer = self._partner()
        if peer is not None:
            self._links[peer].session.begin_round()
            effects.append(SendDue(peer))
        return effects

    def _partner(self) -> PeerId | None:
        """Whom to compare notes with next."""
        live = self._live()
        doubtful = sorted(self._links.keys() - live)
        is_turn_of_doubtful = self._rounds % self.config.doubtful_every == 0
        if doubtful and (is_turn_of_doubtful or not live):
            return self._rng.choice(doubtful)
        return self._rng.choice(live) if live else None

    def _few(self, besides: PeerId | None = None) -> list[PeerId]:
        """Whom to push to: live peers by chance."""
        live = [peer for peer in self._live() if peer != besides]
        return self._rng.sample(live, min(self.config.push_peers, len(live)))

    def _push(self, peers: Iterable[PeerId], place: Place) -> list[Effect]:
        effects: list[Effect] = []
        for peer in peers:
            self._links[peer].session.push(place)
            effects.append(SendDue(peer))
        return effects

    def _live(self) -> list[PeerId]:
        return [peer for peer in sorted(self._links) if not self._is_doubtful(peer)]

    def _set_round(self, now: float) -> None:
        # Uneven, so that nodes started together do not stay in step.
        self._round_at = now + self.config.round_interval * self._rng.uniform(0.8, 1.2)
