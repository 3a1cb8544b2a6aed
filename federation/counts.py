"""Counts: what a front did that no client noticed, for the metrics.

By peer, of which there are as many as the swarm has members: nobody else gets into the view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from p2p.peer import PeerId


@dataclass(slots=True)
class Counts:
    """Since the front started; they only rise."""

    refusals: Counter[PeerId] = field(default_factory=Counter)
    """It said no before it accepted."""
    failures: Counter[PeerId] = field(default_factory=Counter)
    """It accepted and could not go on, or could not be reached; stalls are among them."""
    stalls: Counter[PeerId] = field(default_factory=Counter)
    """It fell silent."""
    hedges: Counter[PeerId] = field(default_factory=Counter)
    """Its first content was late, and one more was asked."""
    retries: Counter[PeerId] = field(default_factory=Counter)
    """It was asked after another one had been asked in vain, before anything was delivered."""
    resumes: Counter[PeerId] = field(default_factory=Counter)
    """It went on with an answer that another one had begun."""

    def by_name(self) -> Mapping[str, Mapping[str, int]]:
        """All of them, each by peer id."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
