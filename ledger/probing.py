"""Probing: whom we ask whether it lives, through whom, and what its silence means.

    directly --(silent)--> through others, and directly again --(silent)--> suspect
                               |
                               +--(partial view, no helper could ask)--> directly once more --> suspect

One peer is asked at a time, in shuffled rounds, so each is reached within two rounds and
the load per node does not depend on the swarm's size. All tries of one question have one
sequence: an answer counts whichever try it answers.

In a large swarm nobody is linked to everybody. There, helpers often have no link to the
target either, so a lost frame gets a third try before it becomes a rumour; and whoever has
no link to a peer does not judge it: those who have one do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TypeAlias

from ledger.beliefs import Beliefs
from ledger.liveness_config import LivenessConfig
from ledger.local_health import LocalHealth
from ledger.probe import RUMOURS_MAX, Message, Ping, PingRequest
from ledger.rumour import Claim, Status, complaint
from p2p.peer import PeerId

Send: TypeAlias = Callable[[PeerId, Message], None]


@dataclass(slots=True)
class _Question:
    """One peer is being asked whether it lives."""

    sequence: int
    asked_at: float
    deadline: float
    pings: int = 0
    """Sent to it by ourselves."""
    asked_others: bool = False
    helpers: set[PeerId] = field(default_factory=set)
    """Whom we asked to ask."""
    silent_helpers: set[PeerId] = field(default_factory=set)
    """Those of them we heard nothing from at all."""
    is_confirmed: bool = False
    """A helper asked it too, and heard nothing either."""
    is_of_round: bool = False
    """Asked in its turn, and not for a special reason."""


class Probing:
    """The questions under way."""

    def __init__(
        self, beliefs: Beliefs, local_health: LocalHealth, rng: Random, config: LivenessConfig, send: Send
    ) -> None:
        self.sequences = count(1)
        """A new one for each question, also for those we carry for others: an answer names it."""
        self._beliefs = beliefs
        self._local_health = local_health
        self._rng = rng
        self._config = config
        self._send = send
        self._round: list[PeerId] = []
        self._questions: dict[PeerId, _Question] = {}
        self._blameless_until = 0.0

    @property
    def deadlines(self) -> Iterator[float]:
        """When each question has waited long enough."""
        return (question.deadline for question in self._questions.values())

    def is_asking(self, target: PeerId) -> bool:
        """Whether a question to `target` is under way."""
        return target in self._questions

    def may_blame(self, now: float) -> bool:
        """Whether silence and broken connections say something about others, and not about our own pause."""
        return now >= self._blameless_until

    def forgive(self, lateness: float, now: float) -> None:
        """We stood still for so long: wait longer for every answer, and blame nobody for a while."""
        self._blameless_until = max(self._blameless_until, now + min(lateness, self._config.wake_grace_max))
        for question in self._questions.values():
            question.asked_at += lateness
            question.deadline = max(question.deadline + lateness, now + self._config.direct_timeout)

    def ask_next(self, now: float) -> None:
        """Ask the next one of this round."""
        if not self._round:
            self._round = self._new_round()
        while self._round:
            target = self._round.pop()
            if target in self._beliefs.peers and target not in self._questions:
                self.ask(target, now, is_of_round=True)
                return

    def ask(self, target: PeerId, now: float, *, is_of_round: bool = False) -> None:
        """Ask `target` now, instead of whatever question to it is under way."""
        sequence = next(self.sequences)
        question = self._questions[target] = _Question(sequence, now, now, is_of_round=is_of_round)
        if self._beliefs.peers[target].is_linked:
            self._ping(target, question, now)
        else:
            self._ask_others(target, question, now)

    def on_deadlines(self, now: float) -> None:
        """Go on with each question that has waited long enough."""
        for target in sorted(peer for peer, each in self._questions.items() if each.deadline <= now):
            self._on_silence(target, self._questions[target], now)

    def on_ack(self, target: PeerId, sequence: int, now: float) -> float | None:
        """`target` answered; the round trip, if that was our question and it can be told.

        After a second ping nobody knows which one was answered (Karn's rule, RFC 6298).
        """
        question = self._questions.get(target)
        if question is None or question.sequence != sequence:
            return None
        self._answered(target)
        return now - question.asked_at if question.pings == 1 else None

    def on_relayed_ack(self, helper: PeerId, target: PeerId, sequence: int) -> bool:
        """A helper says that `target` answered it. Whether we had asked for that."""
        question = self._questions.get(target)
        if question is None or question.sequence != sequence or helper not in question.helpers:
            return False
        self._answered(target)
        return True

    def on_nack(self, helper: PeerId, sequence: int, *, has_asked: bool) -> None:
        """The helper is well, and heard nothing, or could not ask."""
        for question in self._questions.values():
            if question.sequence == sequence and helper in question.helpers:
                question.silent_helpers.discard(helper)
                question.is_confirmed |= has_asked

    def send_ping(self, target: PeerId, sequence: int, claim: Claim) -> None:
        """Ping `target`, and tell it what `claim` holds against it."""
        own = self._beliefs.incarnation
        self._send(target, Ping(sequence, own, complaint(claim), self._beliefs.rumours_to_ride(RUMOURS_MAX)))

    def _new_round(self) -> list[PeerId]:
        """Everybody linked, in random order, and one of the others, whom only helpers can ask.

        Asked for now and then, the lost are found again after a partition; asked for always, a drawer full
        of old laptops would slow down the watch over the living. In a partial view those alive without a
        link are none of ours: their own neighbours ask them.
        """
        is_partial = self._beliefs.is_view_partial
        watched = list(self._beliefs.linked())
        others = [
            peer
            for peer, health in self._beliefs.peers.items()
            if not health.is_linked and not (is_partial and health.status in (Status.ALIVE, Status.SUSPECT))
        ]
        if others:
            watched.append(self._rng.choice(others))
        self._rng.shuffle(watched)
        return watched

    def _ping(self, target: PeerId, question: _Question, now: float) -> None:
        question.pings += 1
        question.deadline = now + self._config.direct_timeout * self._local_health.patience
        self.send_ping(target, question.sequence, self._beliefs.peers[target].claim)

    def _ask_others(self, target: PeerId, question: _Question, now: float) -> None:
        """Ask through others, and directly again where we can: one lost frame is no death."""
        question.asked_others = True
        health = self._beliefs.peers[target]
        able = self._beliefs.helpers_for(target)
        question.helpers = set(self._rng.sample(able, min(self._config.helpers, len(able))))
        question.silent_helpers = set(question.helpers)
        if health.is_linked:
            self._ping(target, question, now)
        elif not able:
            self._give_up(target, question, now)
            return
        question.deadline = now + self._config.indirect_timeout * self._local_health.patience
        for helper in sorted(question.helpers):
            riding = self._beliefs.rumours_to_ride(RUMOURS_MAX)
            self._send(helper, PingRequest(question.sequence, target, complaint(health.claim), riding))

    def _on_silence(self, target: PeerId, question: _Question, now: float) -> None:
        health = self._beliefs.peers.get(target)
        if health is None:
            del self._questions[target]
        elif not question.asked_others:
            self._ask_others(target, question, now)
        elif self._deserves_third_try(question) and health.is_linked:
            self._ping(target, question, now)
        else:
            self._give_up(target, question, now)

    def _deserves_third_try(self, question: _Question) -> bool:
        """Where helpers may have had no link to it, two lost frames are all there is against it."""
        return question.pings == 2 and not question.is_confirmed and self._beliefs.is_view_partial

    def _give_up(self, target: PeerId, question: _Question, now: float) -> None:
        del self._questions[target]
        health = self._beliefs.peers[target]
        if health.status is not Status.ALIVE or not self.may_blame(now):
            return
        if not health.is_linked and self._beliefs.is_alone_among_many:
            self._beliefs.lose_sight(target)
        elif health.is_linked or not self._beliefs.is_view_partial:
            # Helpers that did not even say "nothing" point at our own wires. Without helpers, who knows.
            self._local_health.worsen(len(question.silent_helpers) if question.helpers else 1)
            self._beliefs.suspect(target, now)

    def _answered(self, target: PeerId) -> None:
        # The more goes wrong, the more is asked out of turn; to count that would make us doubt sooner still.
        if self._questions.pop(target).is_of_round:
            self._local_health.improve()
