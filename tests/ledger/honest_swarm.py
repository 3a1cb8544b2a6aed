"""A few honest nodes and one that lies: the cores that spread entries, joined by a loop.

Everybody is linked to everybody. Each message crosses as the frame it would be, and arrives at once;
time passes only in `run`. The liar is a test's hand: it says what it is told to, and reads everything.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random

import msgpack

from ledger.entry import Author, Entry, Place
from ledger.proof import Proofs
from ledger.replica import Replica
from ledger.spread import (
    Complaint,
    CutOff,
    Effect,
    Event,
    LinkLost,
    LinkOpened,
    MessageReceived,
    SendDue,
    Spread,
    TimerFired,
    Wrote,
)
from ledger.state import LedgerLimits
from ledger.sync_messages import Entries, Message, News, decode_message_untrusted, encode_message
from p2p.peer import PeerId
from tests.ledger.people import FOUNDER, author

LIAR = author(66)
"""A member, with the invite that everybody has."""
ALICE, BOB, CAROL, DAVE = (author(number) for number in (1, 2, 3, 4))
ADMIN = author(5, "admin", invite=211)
HONEST = (ALICE, BOB, CAROL, DAVE, ADMIN)


class HonestNode:
    """A replica and what spreads it."""

    def __init__(self, who: Author, limits: LedgerLimits | None) -> None:
        self.replica = Replica(who, Proofs(FOUNDER.public_key), f"boot of {who.peer}", limits)
        self.spread = Spread(self.replica, lambda _: False, Random(who.peer))
        self.complaints: Counter[str] = Counter()
        self.cut_off: list[str] = []
        """Why the liar's link was ended."""


class HonestSwarm:
    """The nodes of `HONEST`, each of which has said which process it is, and the link of each to the liar."""

    def __init__(self, limits: LedgerLimits | None = None, liar: PeerId = LIAR.peer) -> None:
        self.now = 0.0
        self.liar = liar
        self.nodes = {who.peer: HonestNode(who, limits) for who in HONEST}
        self.said_to_liar: Counter[type[Message]] = Counter()
        self.bytes_to_liar = 0
        self._due: deque[tuple[PeerId, PeerId]] = deque()
        """Links on which there may be something to fetch: from whom, to whom."""
        for who in HONEST:
            for other in (*HONEST, None):
                if other is not who:
                    self._handle(who.peer, LinkOpened(other.peer if other else liar))
        for node in self.nodes.values():
            node.replica.begin()
        self.run(5.0)

    def put(self, who: Author, key: str, value: bytes) -> None:
        """`who` writes, and pushes it."""
        node = self.nodes[who.peer]
        node.replica.put(key, value)
        self._handle(who.peer, Wrote(Place(who.peer, key)))
        self._settle()

    def lie(self, *messages: Message, to: Iterable[Author] = HONEST) -> None:
        """The liar says this to all of `to` that still listen, and reads what they answer."""
        for message in messages:
            received = decode_message_untrusted(msgpack.unpackb(msgpack.packb(encode_message(message))))
            for who in to:
                self._handle(who.peer, MessageReceived(self.liar, received))
                self._settle()

    def tell(self, *entries: Entry | bytes, as_news: bool = False, to: Iterable[Author] = HONEST) -> None:
        """The same for entries."""
        encoded = tuple(each.encoded if isinstance(each, Entry) else each for each in entries)
        for start in range(0, len(encoded), 100):
            part = encoded[start : start + 100]
            self.lie(News(part) if as_news else Entries(part), to=to)

    def run(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Let so much time pass; `meanwhile` happens before each timer fires."""
        end = self.now + seconds
        while True:
            peer, node = min(self.nodes.items(), key=lambda item: (item[1].spread.wake_at, item[0]))
            if node.spread.wake_at == math.inf or node.spread.wake_at > end:
                self.now = end
                return
            self.now = node.spread.wake_at
            meanwhile()
            self._handle(peer, TimerFired())
            self._settle()

    @property
    def honest_are_equal(self) -> bool:
        """Whether all hold the same of all honest owners, and everything that those say."""
        views = [[node.replica.state.entries_of(who.peer) for who in HONEST] for node in self.nodes.values()]
        own = [self.nodes[who.peer].replica.state.entries_of(who.peer) for who in HONEST]
        return all(view == own for view in views)

    def refused(self, reason: str) -> list[int]:
        """How many entries each node refused for `reason`."""
        return [Counter[str](node.replica.refusals)[reason] for node in self.nodes.values()]

    def _handle(self, peer: PeerId, event: Event) -> None:
        for effect in self.nodes[peer].spread.handle(event, self.now):
            self._carry_out(peer, effect)

    def _carry_out(self, peer: PeerId, effect: Effect) -> None:
        node = self.nodes[peer]
        match effect:
            case SendDue(other):
                self._due.append((peer, other))
            case Complaint(_, refused):
                node.complaints[refused.reason] += 1
            case CutOff(other, why):
                assert other == self.liar, f"an honest node was cut off: {why}"
                node.cut_off.append(why)
                self._handle(peer, LinkLost(other))

    def _settle(self) -> None:
        """Deliver until nobody owes anything that may be sent now."""
        while self._due:
            source, target = self._due.popleft()
            spread = self.nodes[source].spread
            while (message := spread.next_message(target, self.now)) is not None:
                frame = msgpack.packb(encode_message(message))
                if target == self.liar:
                    self.said_to_liar[type(message)] += 1
                    self.bytes_to_liar += len(frame) + 4
                else:
                    received = decode_message_untrusted(msgpack.unpackb(frame))
                    self._handle(target, MessageReceived(source, received))
