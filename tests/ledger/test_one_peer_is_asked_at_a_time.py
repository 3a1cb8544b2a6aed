"""While one peer sends what we lack, no other is asked for the same."""

from __future__ import annotations

from random import Random

from ledger.entry import Author, sign_entry
from ledger.exchange_turn import QUIET_TIME, TURN_TIME_MAX, ExchangeTurn
from ledger.proof import Proofs
from ledger.replica import Replica
from ledger.spread import LinkOpened, MessageReceived, Spread
from ledger.sync_messages import Entries, Message
from ledger.version import Version
from p2p.peer import PeerId
from tests.ledger.people import FOUNDER, author

ONE, OTHER = PeerId("one"), PeerId("other")


def test_a_turn_ends_when_its_peer_falls_silent() -> None:
    turn = ExchangeTurn()
    assert turn.take(ONE, 0.0)
    assert not turn.take(OTHER, 0.4)
    turn.heard(ONE, 0.4)
    turn.heard(OTHER, 0.8)
    assert not turn.take(OTHER, 0.4 + QUIET_TIME - 0.01)
    assert turn.take(OTHER, 0.4 + QUIET_TIME)


def test_a_peer_that_never_ends_gives_way_to_others() -> None:
    turn = ExchangeTurn()
    now = 0.0
    while turn.take(ONE, now):
        now += 0.1
    assert now >= TURN_TIME_MAX - 0.1
    assert turn.take(OTHER, now)


class Newcomer:
    """Links to many peers that hold the same, and what these send it."""

    def __init__(self) -> None:
        members = sorted((author(number) for number in range(1, 22)), key=lambda each: each.peer)
        me, *others = members
        self.me = self._spread_of(me)
        self.others = {each.peer: self._spread_of(each, members) for each in others}
        self.received = 0

    def _spread_of(self, who: Author, known: list[Author] | None = None) -> tuple[Replica, Spread]:
        replica = Replica(who, Proofs(FOUNDER.public_key), "boot")
        for each in known or ():
            if each.peer != who.peer:
                replica.receive(sign_entry(each, "node", Version(1, 1), b"\x80").encoded, each.peer)
        return replica, Spread(replica, lambda _: False, Random(1))

    def meet_all(self) -> None:
        replica, spread = self.me
        for peer, (_, other) in self.others.items():
            spread.handle(LinkOpened(peer), 0.0)
            other.handle(LinkOpened(replica.me), 0.0)
        carried = True
        while carried:
            carried = False
            for peer, (_, other) in self.others.items():
                carried |= self._carry(peer, other)

    def _carry(self, peer: PeerId, other: Spread) -> bool:
        replica, spread = self.me
        to_us, to_them = other.next_message(replica.me, 0.01), spread.next_message(peer, 0.01)
        self._count(to_us)
        if to_us is not None:
            spread.handle(MessageReceived(peer, to_us), 0.01)
        if to_them is not None:
            other.handle(MessageReceived(replica.me, to_them), 0.01)
        return to_us is not None or to_them is not None

    def _count(self, message: Message | None) -> None:
        if isinstance(message, Entries):
            self.received += len(message.encoded)


def test_a_newcomer_with_twenty_links_is_sent_the_ledger_once() -> None:
    newcomer = Newcomer()
    newcomer.meet_all()
    held = sum(1 for _ in newcomer.me[0].state.entries())
    assert held == 20
    assert newcomer.received == held
