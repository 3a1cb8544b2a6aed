"""Many failure detectors under one virtual clock: a heap of what happens next, and a seed.

Frames may be late, reordered or lost; processes may freeze, die, or be cut off. The
run is exactly repeatable: the same seed tells the same story.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from ledger.failure_detector import FailureDetector
from ledger.liveness_events import (
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
from ledger.rumour import Status
from p2p.peer import PeerId


@dataclass
class Faults:
    """What the simulated network does to frames."""

    delay_min: float = 0.002
    delay_max: float = 0.05
    loss: float = 0.0
    cut: set[tuple[PeerId, PeerId]] = field(default_factory=set)
    """Frames of the first never reach the second; neither is told."""


@dataclass(frozen=True)
class Seen:
    """One change of mind."""

    at: float
    observer: PeerId
    peer: PeerId
    status: Status


class LivenessSimulator:
    """`size` nodes, each linked to each and known by all."""

    def __init__(self, size: int, seed: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.rng = Random(seed)
        self.now = 0.0
        self.story: list[Seen] = []
        self.nodes = [PeerId(f"node{number:04}") for number in range(size)]
        self.detectors: dict[PeerId, FailureDetector] = {}
        self._frozen: dict[PeerId, list[Event]] = {}
        self._generation: dict[PeerId, int] = {}
        self._heap: list[tuple[float, int, PeerId, int, Event]] = []
        self._pushed = 0
        for node in self.nodes:
            self.boot(node)
        for node in self.nodes:
            for peer in self.nodes:
                if node < peer:
                    self.open_link(node, peer)

    def boot(self, node: PeerId) -> None:
        """Start `node` with nothing but its ledger."""
        self._generation[node] = self._generation.get(node, 0) + 1
        self.detectors[node] = FailureDetector(node, Random(self.rng.random()))
        self.happen(node, PeersKnown(frozenset(self.nodes) - {node}))

    def open_link(self, one: PeerId, other: PeerId) -> None:
        self.happen(one, LinkOpened(other))
        self.happen(other, LinkOpened(one))

    def break_link(self, one: PeerId, other: PeerId, after: float = 0.0) -> None:
        self.happen(one, LinkLost(other), after)
        self.happen(other, LinkLost(one), after)

    def kill(self, node: PeerId) -> None:
        """Its process ends; the peers' sockets hear of it within 0.2 s."""
        del self.detectors[node]
        for peer in sorted(self.detectors):
            heard_after = self.rng.uniform(0.005, 0.2)
            self.happen(peer, FailureReported(node), heard_after)
            self.happen(peer, LinkLost(node), heard_after)

    def restart(self, node: PeerId) -> None:
        self.boot(node)
        for peer in sorted(self.detectors.keys() - {node}):
            self.open_link(node, peer)

    def freeze(self, node: PeerId) -> None:
        self._frozen[node] = []

    def thaw(self, node: PeerId) -> None:
        """Let it go on: what lay in its sockets comes in order, and the late timer anywhere among it."""
        unread = self._frozen.pop(node)
        unread.insert(self.rng.randint(0, len(unread)), TimerFired())
        for event in unread:
            self.happen(node, event)

    def happen(self, node: PeerId, event: Event, after: float = 0.0) -> None:
        self._push(self.now + after, node, event)

    def run(self, duration: float) -> None:
        """Let `duration` seconds pass."""
        end = self.now + duration
        while self._heap and self._heap[0][0] <= end:
            self.now, _, node, generation, event = heapq.heappop(self._heap)
            if node in self.detectors and generation == self._generation[node]:
                self._deliver(node, event)
        self.now = end

    def status(self, observer: PeerId, peer: PeerId) -> Status:
        return self.detectors[observer].beliefs.peers[peer].status

    def all_hold(self, peers: Iterable[PeerId], status: Status) -> bool:
        """Every live node believes this of each of `peers`, but of itself."""
        return all(
            self.status(observer, peer) is status
            for peer in peers
            for observer in self.detectors
            if observer != peer
        )

    def first(self, observer: PeerId, peer: PeerId, status: Status, since: float = 0.0) -> float:
        """When `observer` first believed it, or infinity."""
        times = [
            seen.at
            for seen in self.story
            if (seen.observer, seen.peer, seen.status) == (observer, peer, status) and seen.at >= since
        ]
        return min(times, default=math.inf)

    def _push(self, at: float, node: PeerId, event: Event) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, node, self._generation[node], event))

    def _deliver(self, node: PeerId, event: Event) -> None:
        detector = self.detectors[node]
        if node in self._frozen:
            if not isinstance(event, TimerFired):
                self._frozen[node].append(event)
            return
        if isinstance(event, TimerFired) and self.now < detector.wake_at:
            return  # An event in between moved the timer; that one is in the heap too.
        for effect in detector.handle(event, self.now):
            match effect:
                case SendMessage(peer, message):
                    self._transmit(node, peer, MessageReceived(node, message))
                case StatusChanged(peer, status):
                    self.story.append(Seen(self.now, node, peer, status))
        self._push(detector.wake_at, node, TimerFired())

    def _transmit(self, sender: PeerId, receiver: PeerId, event: MessageReceived) -> None:
        if receiver not in self.detectors or (sender, receiver) in self.faults.cut:
            return
        if self.rng.random() >= self.faults.loss:
            self.happen(receiver, event, self.rng.uniform(self.faults.delay_min, self.faults.delay_max))
