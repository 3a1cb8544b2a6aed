"""Helping others to probe: their questions that we carry to a peer, until it answers.

A helper that hears nothing says so, because its silence would be taken for a wire
or a machine that is slow at the asker's end (Lifeguard's local health).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from p2p.peer import PeerId


@dataclass(slots=True)
class Relay:
    """One ping under way for somebody else."""

    asker: PeerId
    asked_sequence: int
    target: PeerId
    deadline: float


@dataclass(slots=True)
class Relays:
    """The pings under way for others, by the sequence we gave each.

    All wait equally long, so the first is due first.
    """

    count_max: int
    per_asker_max: int
    _relays: dict[int, Relay] = field(default_factory=dict)

    def has_room_for(self, asker: PeerId) -> bool:
        """Whether one more of its questions may be carried."""
        its = sum(relay.asker == asker for relay in self._relays.values())
        return len(self._relays) < self.count_max and its < self.per_asker_max

    @property
    def soonest(self) -> float:
        """When the next one has waited long enough, or infinity."""
        return next((relay.deadline for relay in self._relays.values()), math.inf)

    def add(self, sequence: int, relay: Relay) -> None:
        self._relays[sequence] = relay

    def answered(self, sequence: int, target: PeerId) -> Relay | None:
        """The relay that an answer of `target` ends, if it is one."""
        relay = self._relays.get(sequence)
        if relay is None or relay.target != target:
            return None
        return self._relays.pop(sequence)

    def expired(self, now: float) -> list[Relay]:
        """Those nobody answered in time; they end here. In order of asking."""
        if self.soonest > now:
            return []
        over = [sequence for sequence, relay in self._relays.items() if relay.deadline <= now]
        return [self._relays.pop(sequence) for sequence in over]

    def postpone(self, by: float) -> None:
        for relay in self._relays.values():
            relay.deadline += by
