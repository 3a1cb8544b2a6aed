"""Claims exchange: two nodes tell each other what only one of them has heard.

    one                                  other
      | -- SUMMARY -----------------------> |   a digest of all claims; equal: that was it
      | <----------------------- CLAIMS --- |   what it holds where the digests differ
      | <---------- SUMMARY (answer) ------ |   its own, from before it heard ours
      | -- CLAIMS ------------------------> |   what it lacks still; an answer gets no summary

Rumours fade, and who was away has missed them: a newcomer, a laptop that woke, one half of a
partition. So everybody asks one neighbour now and then, and soon after a link opened, the
ledger named somebody new (what was said of strangers was dropped), or an answer taught much.
What is sent is bounded by a rate: what does not fit goes with a later summary.
"""

from __future__ import annotations

import math
from random import Random

from ledger.beliefs import Beliefs
from ledger.claims_digest import bucket_of
from ledger.liveness_config import LivenessConfig
from ledger.probe import CLAIMS_MAX, Claims, Message, Summary
from p2p.allowance import Allowance
from p2p.peer import PeerId


class ClaimsExchange:
    """Whom to ask when, and what to answer."""

    def __init__(self, beliefs: Beliefs, rng: Random, config: LivenessConfig) -> None:
        self.due_at = math.inf
        """When to call `ask`."""
        self._beliefs = beliefs
        self._rng = rng
        self._config = config
        self._asked_at = -math.inf
        self._opened: PeerId | None = None
        """Whose link opened last. It comes from somewhere else, so it is worth asking first."""
        self._sendable = Allowance(config.claims_burst, config.claims_rate)

    def link_opened(self, peer: PeerId, now: float) -> None:
        self._opened = peer
        self.ask_soon(now)

    def ask_soon(self, now: float) -> None:
        """Something may have been missed. Of many reasons at once, one question comes."""
        self.due_at = min(self.due_at, max(now, self._asked_at + self._config.summary_spacing))

    def postpone(self, now: float) -> None:
        """Be due no earlier than `now`."""
        self.due_at = max(self.due_at, now)

    def ask(self, now: float) -> tuple[PeerId, Message] | None:
        """Whom to ask now, and with what."""
        linked = self._beliefs.linked()
        if not linked:
            self.due_at = math.inf
            return None
        partner = self._opened if self._opened in linked else self._rng.choice(linked)
        assert partner is not None
        self._opened = None
        self._asked_at = now
        # Uneven, so that a swarm that started at once does not ask in step for ever.
        self.due_at = now + self._config.summary_interval * self._rng.uniform(0.75, 1.25)
        return partner, Summary(self._beliefs.digest.to_bytes())

    def answer(self, summary: Summary, now: float) -> list[Message]:
        """What to tell whoever holds what `summary` says."""
        differing = frozenset(self._beliefs.digest.differing(summary.digest))
        if not differing:
            return []
        claims = [claim for claim in self._beliefs.claims() if bucket_of(claim.peer) in differing]
        # At least one is spent: to look them up is work too.
        granted = self._sendable.take(max(1, len(claims)), now)
        if not granted:
            return []
        if granted < len(claims):
            claims = self._rng.sample(claims, granted)
        messages: list[Message] = [
            Claims(tuple(claims[start : start + CLAIMS_MAX])) for start in range(0, len(claims), CLAIMS_MAX)
        ]
        if not summary.is_answer:
            messages.append(Summary(self._beliefs.digest.to_bytes(), is_answer=True))
        return messages
