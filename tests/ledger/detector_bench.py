"""A failure detector on a bench: events go in by hand, effects are looked at."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TypeVar

from ledger.failure_detector import FailureDetector
from ledger.liveness_config import LivenessConfig
from ledger.liveness_events import (
    Effect,
    Event,
    LinkOpened,
    MessageReceived,
    PeersKnown,
    SendMessage,
    TimerFired,
)
from ledger.probe import Ack, Message, Ping
from ledger.rumour import Rumour, Status
from p2p.peer import PeerId

ME, BOB, CAROL, DAVE, ERIN = (PeerId(name) for name in ("alice", "bob", "carol", "dave", "erin"))
ALIVE, SUSPECT, OFFLINE = Status.ALIVE, Status.SUSPECT, Status.OFFLINE
CONFIG = LivenessConfig()


class Bench:
    """A detector, and what it did."""

    def __init__(self, *linked: PeerId, known: Iterable[PeerId] = (BOB, CAROL, DAVE, ERIN)) -> None:
        self.detector = FailureDetector(ME, Random(1), CONFIG)
        self.now = 100.0
        self.handle(PeersKnown(frozenset(known)))
        for peer in linked:
            self.link(peer)

    def handle(self, event: Event) -> list[Effect]:
        return self.detector.handle(event, self.now)

    def receive(self, peer: PeerId, message: Message) -> list[Effect]:
        return self.handle(MessageReceived(peer, message))

    def link(self, peer: PeerId, incarnation: int = 0) -> None:
        """Open a link and let the peer answer its first ping."""
        ping = sent(self.handle(LinkOpened(peer)), Ping)[peer]
        self.receive(peer, Ack(ping.sequence, incarnation))

    def wait(self, duration: float, *answering: PeerId) -> list[Effect]:
        """Fire every timer within `duration` on time; `answering` peers answer at once."""
        effects: list[Effect] = []
        end = self.now + duration
        while self.detector.wake_at <= end:
            self.now = self.detector.wake_at
            new = self.handle(TimerFired())
            for peer, ping in sent(new, Ping).items():
                if peer in answering:
                    new += self.receive(peer, Ack(ping.sequence, 0))
            effects += new
        self.now = end
        return effects

    def status(self, peer: PeerId) -> Status:
        return self.detector.beliefs.peers[peer].status


_M = TypeVar("_M", bound=Message)


def sent(effects: list[Effect], kind: type[_M]) -> dict[PeerId, _M]:
    """The messages of one kind among `effects`, by who gets them; the last one to each."""
    return {
        effect.peer: effect.message
        for effect in effects
        if isinstance(effect, SendMessage) and isinstance(effect.message, kind)
    }


def riding(effects: list[Effect]) -> set[Rumour]:
    """All rumours on pings among `effects`."""
    messages = [effect.message for effect in effects if isinstance(effect, SendMessage)]
    return {rumour for message in messages if isinstance(message, Ping) for rumour in message.rumours}
