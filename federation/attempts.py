"""The attempts at one request: which peers were asked, what they said, and whether to go on.

Before anything reached the client, or to go on with what did, another peer is asked silently. Two
bounds: peers that *failed*, because a request that brings engines down must not go through the whole
swarm, and peers asked at all, because even a quick no costs a round trip. A peer that has no slot is
neither: it may be asked again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from federation.backend import InferenceRequest
from federation.balancer import Candidate
from federation.errors import (
    Busy,
    FederationError,
    ModelNotFound,
    ModelUnavailable,
    Refused,
    refusal_of,
)
from ledger.records import ModelName
from p2p.peer import PeerId

_FAILURES_MAX = 3
"""Design: up to three peers. Engines that die of one request die of it everywhere."""

_ASKED_MAX = 10
"""A refusal takes a millisecond or two; ten of them in a row say that the swarm is full."""

_BUSY_MAX = 256
"""Times that a request may be refused for want of a slot: four peers of which there is no news are asked
every ten seconds for as long as anybody waits."""

_NAMED_MAX = 10
"""Reasons or models that one error names: who has more of them asks `status`."""


@dataclass(slots=True)
class Attempts:
    """What came of asking peers to serve one request."""

    request: InferenceRequest
    deadline: float
    """When nobody wants the answer any more."""
    waits_until: float = math.inf
    """When it must have a slot, if that is earlier."""
    is_onward: bool = False
    """For the rest of an answer that somebody has begun: the request was good enough for who that was."""
    spared: frozenset[PeerId] = frozenset()
    """Not asked."""
    _refusals: dict[PeerId, Refused] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)
    _busy: int = 0

    def __post_init__(self) -> None:
        self.waits_until = min(self.waits_until, self.deadline)

    @property
    def model(self) -> ModelName:
        """What is asked for; may name one file by its hash."""
        return self.request.model

    @property
    def count(self) -> int:
        """How often peers were asked in vain."""
        return len(self._refusals) + self._busy

    @property
    def left_out(self) -> frozenset[PeerId]:
        """Who is not asked, or not again."""
        return self.spared.union(self._refusals)

    @property
    def is_exhausted(self) -> bool:
        """Enough were asked."""
        failures = sum(refusal.reason == "model_failed" for refusal in self._refusals.values())
        return failures >= _FAILURES_MAX or len(self._refusals) >= _ASKED_MAX or self._busy >= _BUSY_MAX

    def note(self, candidate: Candidate, error: FederationError) -> None:
        """`candidate` was asked and did not serve it. One that only had no slot may be asked again."""
        refusal = refusal_of(error)
        if refusal.reason == "busy":
            self._busy += 1
            return
        self._refusals[candidate.peer] = refusal
        self._said.append(f"{candidate.node_name}: {error}")

    def remaining(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that may still be asked; none when enough were."""
        if self.is_exhausted:
            return []
        left_out = self.left_out
        return [candidate for candidate in candidates if candidate.peer not in left_out]

    def verdict(self, obstacles: Sequence[str], models: Sequence[ModelName]) -> FederationError:
        """What to tell the client: `obstacles` keep the other nodes from it, and it might rather ask for one
        of the `models` there are."""
        reasons = {refusal.reason for refusal in self._refusals.values()}
        if self._busy >= _BUSY_MAX:
            return Busy(f"every slot for {self.model} was taken, {self._busy} times")
        if obstacles or reasons - {"no_such_model"}:
            return ModelUnavailable(f"{self.model} cannot run now: {_some([*self._said, *obstacles], '; ')}")
        instead = f"; there is {_some(models, ', ')}" if models else ""
        return ModelNotFound(f"no node of the swarm serves {self.model}{instead}")


def _some(texts: Sequence[str], separator: str) -> str:
    """`texts` in one line that can still be read."""
    more = len(texts) - _NAMED_MAX
    return separator.join(texts[:_NAMED_MAX]) + (f"{separator}and {more} more" if more > 0 else "")
