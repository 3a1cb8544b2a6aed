"""The choice among peers: a pure function over candidates.

    eta           the seconds until its last token, if it served the request
    least_used    the share of its slots that is taken
    random        nothing

The lowest is picked, divided by the weight its owner gave the node; ties at random, so that a
burst does not pile up on one peer. Nodes that the request prefers come before all others, and
those that it avoids after them. `eta` may say that waiting for a slot of a fast machine is
quicker than a free one of a slow machine. Between picking and leasing there must be no `await`: then no
two requests take the same slot.

What a peer reported may be half a second old, our own leases are certain. So a report makes a
peer expensive, but only our own leases make it full: asking a peer that turns out to be busy
costs a millisecond, while sparing one that has just become free would refuse a client for
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from federation.backend import PolicyName
from federation.cost import Cost
from ledger.records import ModelName, ModelState
from p2p.peer import PeerId

Rank: TypeAlias = Literal["preferred", "normal", "avoided"]
"""By the request's or its alias's wishes: chosen in this order."""

RANKS: dict[Rank, int] = {"preferred": 0, "normal": 1, "avoided": 2}
WORTH_WAITING = 1.3
"""How many times longer than waiting and going there it must take elsewhere. When a slot will be free is a
guess, and meanwhile a machine stands idle: with less, the median suffers for the slowest (simulated)."""
_TIE = 1e-9
"""Seconds, or shares: what rounding makes of two equal costs."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that could serve one request, as a front sees it now."""

    peer: PeerId
    node_name: str
    model: ModelName
    state: ModelState
    slots_total: int
    leases: int
    """Slots that our own requests hold."""
    reported_busy: float
    """Slots that others hold, most likely."""
    sha256: str = ""
    """Hex, of its file; empty: not known yet."""
    is_local: bool = False
    """It is the worker of this very node."""
    cost: Cost = field(default_factory=Cost)
    rank: Rank = "normal"
    weight: float = 1.0
    slots_needed: int = 1
    """By the request; 0: what it asks for takes none."""

    @property
    def slots_busy(self) -> float:
        """Most likely taken."""
        return self.leases + self.reported_busy

    @property
    def is_full(self) -> bool:
        """Too few slots are left, for certain. A request that needs more than there are is refused by who
        knows why."""
        needed = min(self.slots_needed, max(self.slots_total, 1))
        return self.leases + needed > self.slots_total if needed else False


def least_used(candidate: Candidate) -> float:
    """The share of its slots that is taken; a model that must be loaded first counts as all taken."""
    share = candidate.slots_busy / max(candidate.slots_total, 1)
    return share if candidate.state == "loaded" else share + 1


def pick(candidates: Iterable[Candidate], policy: PolicyName, rng: Random) -> Candidate | None:
    """The candidate to ask, of those that are not full.

    None: all are, or it is quicker to wait for a slot of one that is.
    """
    asked = list(candidates)
    first = min((RANKS[each.rank] for each in asked if not each.is_full), default=None)
    if first is None:
        return None
    figures = [
        (_figure(each, policy, rng), each) for each in asked if not each.is_full and RANKS[each.rank] == first
    ]
    lowest = min(figure for figure, _ in figures)
    if policy == "eta":
        full = [_figure(each, policy, rng) for each in asked if each.is_full and RANKS[each.rank] <= first]
        if full and min(full) * WORTH_WAITING < lowest:
            return None
    return rng.choice([each for figure, each in figures if figure <= lowest + _TIE])


def _figure(candidate: Candidate, policy: PolicyName, rng: Random) -> float:
    match policy:
        case "eta":
            return candidate.cost.total / candidate.weight
        case "least_used":
            return least_used(candidate) / candidate.weight
        case "random":
            # Whose exponential clock rings first: each with a probability in proportion to its weight.
            return -math.log(1 - rng.random()) / candidate.weight
