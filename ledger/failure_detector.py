"""Failure detector: who of our peers is alive. SWIM, with Lifeguard's local health.

    unknown --(answers)--> alive --(silent, or evidence)--> suspect --(no refutation)--> offline
                             ^                                 |                            |
                             +------- a higher incarnation ----+----------------------------+

One peer is probed at a time, in shuffled rounds, so each is reached within two rounds
and the load per node does not depend on the swarm's size. Who does not answer is
asked through others. Only a peer itself can refute what is said of it.

A link is an open probe stream: no link, no direct probe. `now` is local, monotonic
time and nothing else; what a pause of our own made late is no peer's fault.
Reads no clock, sends nothing, knows no streams.

(Das, Gupta, Motivala: "SWIM", 2002; Dadgar, Phillips, Currey: "Lifeguard", 2018.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from ledger.beliefs import Beliefs
from ledger.liveness_config import LivenessConfig
from ledger.liveness_events import (
    ByeSaid,
    Effect,
    Event,
    FailureReported,
    LinkLost,
    LinkOpened,
    MessageReceived,
    PeersKnown,
    SendMessage,
    StatusChanged,
    TimerFired,
)
from ledger.local_health import LocalHealth
from ledger.probe import RUMOURS_MAX, Ack, Gossip, Message, Nack, Ping, PingRequest, RelayedAck
from ledger.relay import Relay, Relays
from ledger.rumour import UNKNOWN, Claim, Rumour, Status
from p2p.peer import PeerId


@dataclass(slots=True)
class _Probe:
    """One question under way."""

    sequence: int
    asked_at: float
    deadline: float
    helpers: set[PeerId] = field(default_factory=set)
    """Whom we asked to ask; empty as long as we wait for the peer itself."""
    silent_helpers: set[PeerId] = field(default_factory=set)


class FailureDetector:
    """Give it every event, carry out every effect, and fire its timer at `wake_at`."""

    def __init__(self, me: PeerId, rng: Random, config: LivenessConfig | None = None) -> None:
        self.config = config or LivenessConfig()
        self.beliefs = Beliefs(me, self.config)
        self.local_health = LocalHealth()
        self._rng = rng
        self._round: list[PeerId] = []
        self._next_probe_at = math.inf
        """Nothing is due before the first event."""
        self._probes: dict[PeerId, _Probe] = {}
        self._relays = Relays(self.config.relays_max)
        self._sequence = 0
        self._effects: list[Effect] = []

    @property
    def wake_at(self) -> float:
        """When to fire the timer, unless an event comes first."""
        probes = (probe.deadline for probe in self._probes.values())
        return min([self._next_probe_at, *probes, *self._relays.deadlines, *self.beliefs.deadlines])

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event`."""
        self._forgive_own_lateness(now)
        if self._next_probe_at == math.inf:
            self._next_probe_at = now
        incarnation = self.beliefs.incarnation
        sender: PeerId | None = None
        match event:
            case LinkOpened(peer):
                self.beliefs.link(peer)
                self._probe(peer, now)
            case LinkLost(peer):
                self.beliefs.unlink(peer)
                self._check(peer, now)
            case ByeSaid(peer):
                self.beliefs.said_bye(peer, now)
            case FailureReported(peer):
                self._accuse(peer, now)
            case PeersKnown(peers):
                self.beliefs.know(peers)
            case MessageReceived(sender, message):
                self._on_message(sender, message, now)
            case TimerFired():
                self._on_timer(now)
        if self.beliefs.incarnation > incarnation:
            # Somebody missed our answers: Lifeguard takes it as a sign that we are the slow one.
            self.local_health.worsen()
        return self._take_effects(sender)

    def _take_effects(self, heard_from: PeerId | None) -> list[Effect]:
        self._push_news(heard_from)
        changes = [StatusChanged(peer, status) for peer, status in self.beliefs.take_changed()]
        effects, self._effects = self._effects, []
        return [*changes, *effects]

    def _forgive_own_lateness(self, now: float) -> None:
        """Give every wait the time back in which we stood still, and some to read what lies there."""
        lateness = now - self.wake_at
        if lateness > self.config.lateness_max:
            self.local_health.worsen()
            not_before = now + self.config.direct_timeout
            for probe in self._probes.values():
                probe.asked_at += lateness
                probe.deadline = max(probe.deadline + lateness, not_before)
            self._relays.postpone(lateness)
            self.beliefs.postpone(lateness, not_before)
            # Nothing is overdue any more, so what else lay unread is not taken for another pause.
            self._next_probe_at = max(self._next_probe_at, now)

    def _on_timer(self, now: float) -> None:
        for relay in self._relays.expired(now):
            self._send(relay.asker, Nack(relay.asked_sequence, self._riding()))
        for target in sorted(peer for peer, probe in self._probes.items() if probe.deadline <= now):
            self._on_silence(target, now)
        self.beliefs.expire(now)
        if now >= self._next_probe_at:
            self._next_probe_at = now + self.config.probe_interval * self.local_health.patience
            self._probe_next(now)

    def _on_message(self, peer: PeerId, message: Message, now: float) -> None:
        health = self.beliefs.peers.get(peer)
        if health is None or not health.is_linked:
            return
        health.heard_at = now
        self.beliefs.hear(message.rumours, now)  # Gossip is nothing but these.
        match message:
            case Ping():
                self._on_ping(peer, message, now)
            case Ack(sequence, incarnation):
                self._on_ack(peer, sequence, incarnation, now)
            case PingRequest():
                self._on_ping_request(peer, message, now)
            case RelayedAck():
                self._on_relayed_ack(peer, message, now)
            case Nack(sequence):
                self._on_nack(peer, sequence)

    def _on_ping(self, peer: PeerId, ping: Ping, now: float) -> None:
        if ping.about_you is not None:
            self.beliefs.refute(ping.about_you)
        self.beliefs.learn(peer, Claim(ping.incarnation, Status.ALIVE), now)
        self._send(peer, Ack(ping.sequence, self.beliefs.incarnation, self._riding()))

    def _on_ack(self, peer: PeerId, sequence: int, incarnation: int, now: float) -> None:
        if (relay := self._relays.answered(sequence, peer)) is not None:
            answer = RelayedAck(relay.asked_sequence, peer, incarnation, self._riding())
            self._send(relay.asker, answer)
        probe = self._probes.get(peer)
        if probe is not None and probe.sequence == sequence:
            self._answered(peer)
            self.beliefs.peers[peer].measured(now - probe.asked_at)
        self.beliefs.learn(peer, Claim(incarnation, Status.ALIVE), now)

    def _on_relayed_ack(self, helper: PeerId, ack: RelayedAck, now: float) -> None:
        probe = self._probes.get(ack.target)
        if probe is not None and probe.sequence == ack.sequence and helper in probe.helpers:
            self._answered(ack.target)
            self.beliefs.learn(ack.target, Claim(ack.incarnation, Status.ALIVE), now)

    def _answered(self, target: PeerId) -> None:
        del self._probes[target]
        self.local_health.improve()

    def _on_nack(self, helper: PeerId, sequence: int) -> None:
        for probe in self._probes.values():
            if probe.sequence == sequence:
                probe.silent_helpers.discard(helper)

    def _on_ping_request(self, asker: PeerId, request: PingRequest, now: float) -> None:
        health = self.beliefs.peers.get(request.target)
        if health is None or not health.is_linked or self._relays.is_full:
            self._send(asker, Nack(request.sequence, self._riding()))
            return
        self._sequence += 1
        deadline = now + self.config.relay_timeout
        self._relays.add(self._sequence, Relay(asker, request.sequence, request.target, deadline))
        # The asker's complaint goes along as it is: the target takes it back without our believing it.
        self._send_ping(request.target, self._sequence, max(request.held_against or UNKNOWN, health.claim))

    def _probe_next(self, now: float) -> None:
        if not self._round:
            self._round = self._new_round()
        while self._round:
            target = self._round.pop()
            if target in self.beliefs.peers and target not in self._probes:
                self._probe(target, now)
                return

    def _new_round(self) -> list[PeerId]:
        """Everybody whose life is in question, in random order, and one of the lost.

        The lost are those we have no link to and do not believe alive. Asked for now and then,
        they are found again after a partition; asked for always, a drawer full of old laptops
        would slow down the watch over the living.
        """
        watched: list[PeerId] = []
        lost: list[PeerId] = []
        for peer, health in sorted(self.beliefs.peers.items()):
            is_lost = not health.is_linked and health.status in (Status.UNKNOWN, Status.OFFLINE)
            (lost if is_lost else watched).append(peer)
        if lost:
            watched.append(self._rng.choice(lost))
        self._rng.shuffle(watched)
        return watched

    def _probe(self, target: PeerId, now: float) -> None:
        """Ask `target` now, instead of whatever question to it is under way."""
        self._sequence += 1
        deadline = now + self.config.direct_timeout * self.local_health.patience
        self._probes[target] = _Probe(self._sequence, now, deadline)
        health = self.beliefs.peers[target]
        if health.is_linked:
            self._send_ping(target, self._sequence, health.claim)
        else:
            self._on_silence(target, now)

    def _on_silence(self, target: PeerId, now: float) -> None:
        """`target` did not answer: ask others, or give up if they were asked."""
        probe = self._probes[target]
        able = [] if probe.helpers else self.beliefs.helpers_for(target)
        if not able or target not in self.beliefs.peers:
            self._give_up(target, probe, now)
            return
        probe.helpers = set(self._rng.sample(able, min(self.config.helpers, len(able))))
        probe.silent_helpers = set(probe.helpers)
        probe.deadline = now + self.config.indirect_timeout * self.local_health.patience
        held_against = _complaint(self.beliefs.peers[target].claim)
        for helper in sorted(probe.helpers):
            self._send(helper, PingRequest(probe.sequence, target, held_against, self._riding()))

    def _give_up(self, target: PeerId, probe: _Probe, now: float) -> None:
        del self._probes[target]
        health = self.beliefs.peers.get(target)
        if health is not None and health.status is Status.ALIVE:
            # Helpers that did not even say "nothing" point at our own wires. Without helpers, who knows.
            self.local_health.worsen(len(probe.silent_helpers) if probe.helpers else 1)
            self.beliefs.suspect(target, now)

    def _check(self, peer: PeerId, now: float) -> None:
        """Ask about `peer` out of turn, if we believe it alive."""
        health = self.beliefs.peers.get(peer)
        if health is not None and health.status is Status.ALIVE:
            self._probe(peer, now)

    def _accuse(self, peer: PeerId, now: float) -> None:
        """There is evidence against `peer`: suspect it, and ask."""
        health = self.beliefs.peers.get(peer)
        if health is not None and health.status is Status.ALIVE:
            self.beliefs.suspect(peer, now)
            self._probe(peer, now)

    def _push_news(self, heard_from: PeerId | None) -> None:
        """Tell a few peers at once what this event taught us, and each whom it accuses."""
        news = self.beliefs.take_news()
        if not news:
            return
        linked = self.beliefs.linked()
        if not linked:
            self.beliefs.forget_rumours()
            return
        receivers = set(self._rng.sample(linked, min(self.config.push_fanout, len(linked))))
        # Only the accused can refute, so they must hear of it.
        receivers.update(rumour.peer for rumour in news if _complaint(rumour.claim) and rumour.peer in linked)
        for receiver in sorted(receivers - {heard_from}):
            for start in range(0, len(news), RUMOURS_MAX):
                self._send(receiver, Gossip(tuple(news[start : start + RUMOURS_MAX])))

    def _send_ping(self, target: PeerId, sequence: int, claim: Claim) -> None:
        self._send(target, Ping(sequence, self.beliefs.incarnation, _complaint(claim), self._riding()))

    def _riding(self) -> tuple[Rumour, ...]:
        return self.beliefs.rumours_to_ride(RUMOURS_MAX)

    def _send(self, peer: PeerId, message: Message) -> None:
        self._effects.append(SendMessage(peer, message))


def _complaint(claim: Claim) -> Claim | None:
    """What `claim` holds against a peer, if anything."""
    return claim if claim.status in (Status.SUSPECT, Status.OFFLINE) else None
