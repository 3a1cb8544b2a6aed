"""Failure detector: who of our peers is alive. SWIM, with Lifeguard's local health.

    unknown --(answers)--> alive --(silent, or evidence)--> suspect --(no refutation)--> offline
                             ^                                 |                            |
                             +------- a higher incarnation ----+----------------------------+

It asks its neighbours one after the other (`probing.py`), carries questions for others
(`relay.py`), and tells on what it learns (`beliefs.py`); what was missed comes with the
claims exchange. Only a peer itself can refute what is said of it.

A link is an open probe stream: no link, no direct probe. `now` is local, monotonic
time and nothing else; what a pause of our own made late is no peer's fault. What one
neighbour can make us believe is bounded in number and in size, so a liar wastes its own share.
Reads no clock, sends nothing, knows no streams.

(Das, Gupta, Motivala: "SWIM", 2002; Dadgar, Phillips, Currey: "Lifeguard", 2018.)
"""

from __future__ import annotations

import math
from random import Random

from ledger.allowance import Allowances
from ledger.beliefs import Beliefs
from ledger.claims_exchange import ClaimsExchange
from ledger.liveness_config import LivenessConfig
from ledger.liveness_events import (
    ByeSaid,
    DoubtRaised,
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
from ledger.probe import (
    RUMOURS_MAX,
    Ack,
    Claims,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    RelayedAck,
    Summary,
)
from ledger.probing import Probing
from ledger.relay import Relay, Relays
from ledger.rumour import UNKNOWN, Claim, Rumour, Status, complaint
from p2p.allowance import Allowance
from p2p.peer import PeerId


class FailureDetector:
    """Give it every event, carry out every effect, and fire its timer at `wake_at`."""

    def __init__(self, me: PeerId, rng: Random, config: LivenessConfig | None = None) -> None:
        self.config = config or LivenessConfig()
        self.beliefs = Beliefs(me, self.config)
        self.local_health = LocalHealth()
        self._rng = rng
        self._probing = Probing(self.beliefs, self.local_health, rng, self.config, self._send)
        self._next_probe_at = math.inf
        """Nothing is due before the first event."""
        self._relays = Relays(self.config.relays_max, self.config.relays_per_asker_max)
        self._exchange = ClaimsExchange(self.beliefs, rng, self.config)
        self._credit = Allowances(self.config.news_burst, self.config.news_rate)
        """How much more each peer may make us believe."""
        self._own_pushes = Allowance(self.config.push_burst, self.config.push_rate)
        """How much we still tell unasked of what we found out."""
        self._passed_on = Allowance(self.config.pass_on_burst, self.config.push_rate)
        """How much of what others told us: whoever tells much does not make us silent about the rest."""
        self._refutations = Allowance(self.config.pass_on_burst, self.config.push_rate)
        """How much of ourselves, when others say that we are not well: whoever says it often does not make us
        silent about those who are not."""
        self._checks = Allowances(self.config.check_burst, self.config.check_rate)
        """How much each peer may still make us ask others."""
        self._forgiveness = Allowance(self.config.forgiveness_burst, self.config.forgiveness_rate)
        """How often we still may find that it was we who stood still."""
        self._late_at = -math.inf
        """When we last found that we stood still."""
        self._called_slow_at = -math.inf
        """When a complaint about us last counted."""
        self._effects: list[Effect] = []

    @property
    def wake_at(self) -> float:
        """When to fire the timer, unless an event comes first."""
        return min(
            self._next_probe_at,
            self._exchange.due_at,
            self._relays.soonest,
            self.beliefs.deadlines.soonest,
            *self._probing.deadlines,
        )

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about `event`."""
        self._forgive_own_lateness(now)
        if self._next_probe_at == math.inf:
            self._next_probe_at = now
        incarnation = self.beliefs.incarnation
        sender: PeerId | None = None
        match event:
            case LinkOpened(peer):
                self._on_link(peer, now)
            case LinkLost(peer):
                self._on_link_lost(peer, now)
            case ByeSaid(peer):
                self.beliefs.said_bye(peer, now)
            case FailureReported(peer) | DoubtRaised(peer):
                self._look_after(peer, now, has_failed=isinstance(event, FailureReported))
            case PeersKnown(peers):
                self._on_peers_known(peers, now)
            case MessageReceived(sender, message):
                self._on_message(sender, message, now)
            case TimerFired():
                self._on_timer(now)
        if self.beliefs.incarnation > incarnation:
            self._note_complaint(now)
        return self._take_effects(sender, now)

    def _take_effects(self, heard_from: PeerId | None, now: float) -> list[Effect]:
        self._push_news(heard_from, now)
        changes = [StatusChanged(peer, status) for peer, status in self.beliefs.take_changed()]
        effects, self._effects = self._effects, []
        return [*changes, *effects]

    def _note_complaint(self, now: float) -> None:
        """Somebody missed our answers: Lifeguard takes it as a sign that we are the slow one."""
        if self._does_complaint_count(now):
            self._called_slow_at = now
            self.local_health.worsen()

    def _does_complaint_count(self, now: float) -> bool:
        """One in the time that a suspicion takes, or a liar could keep us from ever blaming anybody. It takes
        longer the more patient we are, as do the probes that make us less so."""
        return now >= self._called_slow_at + self.config.suspicion_min * self.local_health.patience

    def _forgive_own_lateness(self, now: float) -> None:
        """Give every wait the time back in which we stood still, and some to read what lies there.

        Not too often: on a machine that is always late nothing would ever fall due. There being slow makes us
        patient, and nothing else.
        """
        # What else lay unread is not taken for another pause.
        lateness = now - max(self.wake_at, self._late_at)
        if lateness > self.config.lateness_max:
            self._late_at = now
            self.local_health.worsen()
            if self._forgiveness.take(1, now) == 1:
                self._probing.forgive(lateness, now)
                self._relays.postpone(lateness)
                self._exchange.postpone(now)
                self.beliefs.deadlines.postpone(lateness, now + self.config.direct_timeout)
                self._next_probe_at = max(self._next_probe_at, now)

    def _on_link(self, peer: PeerId, now: float) -> None:
        self.beliefs.link(peer)
        self._exchange.link_opened(peer, now)
        self._probing.ask(peer, now)

    def _on_link_lost(self, peer: PeerId, now: float) -> None:
        self.beliefs.unlink(peer)
        if self.beliefs.is_alive(peer):
            self._probing.ask(peer, now)

    def _on_peers_known(self, peers: frozenset[PeerId], now: float) -> None:
        if self.beliefs.know(peers, now):
            # What was held against the new ones before was said of strangers, and dropped.
            self._exchange.ask_soon(now)

    def _on_timer(self, now: float) -> None:
        for relay in self._relays.expired(now):
            self._send(relay.asker, Nack(relay.asked_sequence, self._riding()))
            # The asker may have no link to it and cannot judge: we have one.
            is_open = self.beliefs.is_alive(relay.target) and not self._probing.is_asking(relay.target)
            if is_open and self._may_check_for(relay.asker, now):
                self._probing.ask(relay.target, now)
        self._probing.on_deadlines(now)
        self.beliefs.expire(now)
        if now >= self._next_probe_at:
            self._next_probe_at = now + self.config.probe_interval * self.local_health.patience
            self._probing.ask_next(now)
        if now >= self._exchange.due_at and (question := self._exchange.ask(now)) is not None:
            self._send(*question)

    def _on_message(self, peer: PeerId, message: Message, now: float) -> None:
        health = self.beliefs.peers.get(peer)
        if health is None or not health.is_linked:
            return
        health.heard_at = now
        if message.rumours:
            news = self._afford(peer, message.rumours, now)  # Gossip is nothing but these.
            self._see_for_ourselves(self.beliefs.hear(news, now), peer, now)
        match message:
            case Ping():
                self._on_ping(peer, message, now)
            case Ack(sequence, incarnation):
                self._on_ack(peer, sequence, incarnation, now)
            case PingRequest():
                self._on_ping_request(peer, message, now)
            case RelayedAck():
                self._on_relayed_ack(peer, message, now)
            case Nack(sequence, has_asked=has_asked):
                self._probing.on_nack(peer, sequence, has_asked=has_asked)
            case Summary() | Claims():
                self._on_exchange(peer, message, now)

    def _afford(self, peer: PeerId, rumours: tuple[Rumour, ...], now: float) -> list[Rumour]:
        """Of what `peer` tells us, the news it may still make us believe. A summary brings the rest later."""
        self.beliefs.note_strangers(rumours)
        news = self.beliefs.news_among(rumours)
        return news[: self._credit.of(peer, now).take(len(news), now)] if news else news

    def _on_ping(self, peer: PeerId, ping: Ping, now: float) -> None:
        if ping.about_you is not None:
            self.beliefs.answer_complaint(ping.about_you, is_pushed=self._does_complaint_count(now))
        self._hear_itself(peer, ping.incarnation, now)
        self._send(peer, Ack(ping.sequence, self.beliefs.incarnation, self._riding()))

    def _on_ack(self, peer: PeerId, sequence: int, incarnation: int, now: float) -> None:
        if (relay := self._relays.answered(sequence, peer)) is not None:
            answer = RelayedAck(relay.asked_sequence, peer, incarnation, self._riding())
            self._send(relay.asker, answer)
        if (round_trip := self._probing.on_ack(peer, sequence, now)) is not None:
            self.beliefs.peers[peer].measured(round_trip)
        self._hear_itself(peer, incarnation, now)

    def _on_relayed_ack(self, helper: PeerId, ack: RelayedAck, now: float) -> None:
        if self._probing.on_relayed_ack(helper, ack.target, ack.sequence):
            self.beliefs.hear([Rumour(ack.target, Claim(ack.incarnation, Status.ALIVE))], now)

    def _on_exchange(self, peer: PeerId, message: Summary | Claims, now: float) -> None:
        match message:
            case Summary():
                for answer in self._exchange.answer(message, now):
                    self._send(peer, answer)
            case Claims(claims):
                news = self._afford(peer, claims, now)
                if self.beliefs.count_unknown(news) > RUMOURS_MAX:
                    # More than any frame could have told us: we are the newcomer, or all are.
                    self._exchange.ask_soon(now)
                self._see_for_ourselves(self.beliefs.hear(news, now, is_missed=True), peer, now)

    def _see_for_ourselves(self, complaints: list[Rumour], teller: PeerId, now: float) -> None:
        """Tell the accused, for only it can refute, and ask it."""
        # In random order: of more than can be paid for, not always the same go without.
        for rumour in self._rng.sample(complaints, len(complaints)):
            if self._may_check_for(teller, now):
                self._send(rumour.peer, Gossip((rumour,)))
                if not self._probing.is_asking(rumour.peer):
                    self._probing.ask(rumour.peer, now)

    def _may_check_for(self, teller: PeerId, now: float) -> bool:
        return self._checks.of(teller, now).take(1, now) == 1

    def _hear_itself(self, peer: PeerId, incarnation: int, now: float) -> None:
        """Merge what `peer` says of itself: mostly nothing new, and else pushed at its own expense."""
        if self.beliefs.peers[peer].claim != Claim(incarnation, Status.ALIVE):
            is_affordable = self._credit.of(peer, now).take(1, now) == 1
            self.beliefs.hear_itself(peer, incarnation, now, is_pushed=is_affordable)

    def _on_ping_request(self, asker: PeerId, request: PingRequest, now: float) -> None:
        health = self.beliefs.peers.get(request.target)
        if health is None or not health.is_linked or not self._relays.has_room_for(asker):
            self._send(asker, Nack(request.sequence, self._riding(), has_asked=False))
            return
        sequence = next(self._probing.sequences)
        deadline = now + self.config.relay_timeout
        self._relays.add(sequence, Relay(asker, request.sequence, request.target, deadline))
        # The asker's complaint goes along as it is: the target takes it back without our believing it.
        self._probing.send_ping(request.target, sequence, max(request.held_against or UNKNOWN, health.claim))

    def _look_after(self, peer: PeerId, now: float, *, has_failed: bool) -> None:
        """Ask `peer`. Where there is evidence against it, suspect it; but not after a pause of our own."""
        if self.beliefs.is_alive(peer):
            if has_failed and self._probing.may_blame(now):
                self.beliefs.suspect(peer, now)
            if has_failed or not self._probing.is_asking(peer):
                self._probing.ask(peer, now)

    def _push_news(self, heard_from: PeerId | None, now: float) -> None:
        """Tell a few peers at once what this event taught us, and each whom it accuses.

        What we found out ourselves goes to all: who has a link to the accused must look for itself, and
        passes on only what it saw. What is beyond an allowance rides on probes, as all of it does too.
        """
        news = self.beliefs.take_news()
        if not news:
            return
        linked = self.beliefs.linked()
        if not linked:
            self.beliefs.forget_rumours()
            return
        few = self._rng.sample(linked, min(self.config.push_fanout, len(linked)))
        accused = [rumour.peer for rumour, _ in news if complaint(rumour.claim)]
        # Only the accused can refute, so they must hear of it, and first.
        told_all = dict.fromkeys(peer for peer in (*accused, *few) if self.beliefs.peers[peer].is_linked)
        found_some = any(is_found for _, is_found in news)
        allowance = self._own_pushes if found_some else self._allowance_for([rumour for rumour, _ in news])
        others = [peer for peer in linked if peer not in told_all] if found_some else []
        for receiver in (*told_all, *self._rng.sample(others, len(others))):
            told = [rumour for rumour, is_found in news if is_found or receiver in told_all]
            for start in range(0, len(told), RUMOURS_MAX) if receiver != heard_from else ():
                if allowance.take(1, now) == 0:
                    return
                self._send(receiver, Gossip(tuple(told[start : start + RUMOURS_MAX])))

    def _allowance_for(self, news: list[Rumour]) -> Allowance:
        """What pays for `news` that somebody told us, or made us say."""
        is_refutation = any(rumour.peer == self.beliefs.me for rumour in news)
        return self._refutations if is_refutation else self._passed_on

    def _riding(self) -> tuple[Rumour, ...]:
        return self.beliefs.rumours_to_ride(RUMOURS_MAX)

    def _send(self, peer: PeerId, message: Message) -> None:
        self._effects.append(SendMessage(peer, message))
