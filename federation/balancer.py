"""The choice among peers: a pure function over what a front knows of them.

A policy says what it costs to send a request to a candidate; the cheapest is picked,
ties at random, so that a burst does not pile up on one peer. Between picking and
leasing there must be no `await`: then no two requests take the same slot.

What a peer reported may be half a second old, our own leases are certain. So a report
makes a peer expensive, but only our own leases make it full: asking a peer that turns
out to be busy costs a millisecond, while sparing one that has just become free would
refuse a client for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from ledger.records import ModelState
from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that could serve one model, as a front sees it now."""

    peer: PeerId
    node_name: str
    state: ModelState
    slots_total: int
    leases: int
    """Slots that our own requests hold."""
    reported_busy: int
    """Slots that were taken when it last said so, by whomever."""
    is_local: bool = False
    """It is the worker of this very node."""
    sha256: str = ""
    """Hex, of the model's file there; empty: not known yet."""

    @property
    def slots_busy(self) -> int:
        """Most likely taken: a report counts our own leases too, so the two do not add up."""
        return max(self.leases, self.reported_busy)

    @property
    def is_full(self) -> bool:
        """No slot is left, for certain."""
        return self.leases >= self.slots_total


Policy: TypeAlias = Callable[[Candidate], float]
"""What it costs to send the next request there; only compared, so the unit is the policy's own."""


def least_used(candidate: Candidate) -> float:
    """The share of its slots that is taken; a model that must be loaded first counts as all taken."""
    share = candidate.slots_busy / candidate.slots_total
    return share if candidate.state == "loaded" else share + 1


def random(candidate: Candidate) -> float:
    """The same everywhere."""
    del candidate
    return 0.0


POLICIES: dict[str, Policy] = {"least_used": least_used, "random": random}
"""By the name they have in a configuration."""


def pick(candidates: Iterable[Candidate], policy: Policy, rng: Random) -> Candidate | None:
    """The cheapest candidate that is not full, or None if all are."""
    costs = [(policy(candidate), candidate) for candidate in candidates if not candidate.is_full]
    if not costs:
        return None
    lowest = min(cost for cost, _ in costs)
    return rng.choice([candidate for cost, candidate in costs if cost == lowest])
