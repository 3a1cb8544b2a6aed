"""Lifeguard's local health: how slow we are ourselves, as seen from our own probes.

A node whose wires or processor are overloaded misses answers that were sent in time.
The worse its score, the longer it waits before it blames a peer.
(Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure
Detection", 2018, section IV-A.)
"""

from __future__ import annotations

from dataclasses import dataclass

SCORE_MAX = 8
"""From the paper: at the worst, everything takes nine times as long."""


@dataclass(slots=True)
class LocalHealth:
    """A score from 0 (well) to `SCORE_MAX`."""

    score: int = 0

    @property
    def patience(self) -> int:
        """What every wait of ours is multiplied by."""
        return 1 + self.score

    def improve(self) -> None:
        """A probe of ours was answered in time."""
        self.score = max(0, self.score - 1)

    def worsen(self, by: int = 1) -> None:
        """An answer is missing that was probably sent, or others called us slow."""
        self.score = min(SCORE_MAX, self.score + by)
