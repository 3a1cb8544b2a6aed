"""Stopwatches: how long it takes until all have noticed something.

Each measures many cases that overlap in time, so that one settled swarm gives many samples.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from ledger.replica import Change
from ledger.rumour import Status
from p2p.peer import PeerId
from tests.sim.node import Node
from tests.sim.witness import Witness


@dataclass(slots=True)
class _Wait:
    begun_at: float
    by_all: set[PeerId]
    """Who has not noticed."""
    by_linked: set[PeerId]
    """Those of them who had a connection."""


@dataclass(slots=True)
class Stopwatch(Witness):
    """Times of writes until they are known, and of deaths until nobody would choose the dead."""

    write_known: list[float] = field(default_factory=list)
    noticed_by_all: list[float] = field(default_factory=list)
    noticed_by_linked: list[float] = field(default_factory=list)
    _writes: dict[bytes, tuple[float, set[PeerId]]] = field(default_factory=dict)
    _victims: dict[PeerId, _Wait] = field(default_factory=dict)

    @property
    def is_waiting(self) -> bool:
        return bool(self._writes or self._victims)

    def wrote(self, node: Node, key: str) -> None:
        """`node` has just written `key`."""
        entry = node.replica.state.get(node.peer, key)
        assert entry is not None
        others = {other.peer for other in node.world if other is not node}
        self._writes[entry.digest] = (node.world.now, others)

    def befalls(self, victim: Node, excused: Set[PeerId] = frozenset()) -> None:
        """In this moment, something happens to `victim` that others should notice; all but the `excused`."""
        others = {node.peer for node in victim.world if node is not victim and not node.is_paused} - excused
        self._victims[victim.peer] = _Wait(victim.world.now, others, others & victim.pipes.keys())
        for waiting in self._victims.values():
            waiting.by_all.discard(victim.peer)
            waiting.by_linked.discard(victim.peer)

    def ledger_changed(self, node: Node, change: Change) -> None:
        waiting = self._writes.get(change.entry.digest) if change.is_in else None
        if waiting is not None:
            begun_at, others = waiting
            others.discard(node.peer)
            if not others:
                self.write_known.append(node.world.now - begun_at)
                del self._writes[change.entry.digest]

    def status_changed(self, observer: Node, peer: PeerId, status: Status) -> None:
        waiting = self._victims.get(peer)
        if waiting is None or status not in (Status.SUSPECT, Status.OFFLINE):
            return
        passed = observer.world.now - waiting.begun_at
        if observer.peer in waiting.by_linked:
            waiting.by_linked.discard(observer.peer)
            if not waiting.by_linked:
                self.noticed_by_linked.append(passed)
        waiting.by_all.discard(observer.peer)
        if not waiting.by_all:
            self.noticed_by_all.append(passed)
            del self._victims[peer]


@dataclass(slots=True)
class Doubts(Witness):
    """Who believes of whom that it is not alive."""

    pairs: set[tuple[PeerId, PeerId]] = field(default_factory=set)

    def status_changed(self, observer: Node, peer: PeerId, status: Status) -> None:
        if status is Status.ALIVE:
            self.pairs.discard((observer.peer, peer))
        else:
            self.pairs.add((observer.peer, peer))
