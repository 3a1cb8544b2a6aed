"""Affinity: which peer has read which beginning of a prompt, so that it need not read it again.

A guess, for a peer tells nobody what it keeps. So it is checked: an answer says how many
tokens of its prompt needed no prefill, and a peer that keeps less than was thought is
believed less. It is a number of tokens in the cost and never a rule, so it is worth at
most the time that reading them takes, and a beginning that everybody asks with spreads
as soon as waiting costs more than that.
"""

from __future__ import annotations

from federation.prefix import Prefix
from federation.recent import Recent
from ledger.records import ModelName
from p2p.peer import PeerId

_KEYS_MAX = 16_384
"""Beginnings: 64 long conversations or a thousand short ones, a few MB."""
_HOLDERS_MAX = 8
"""Peers kept of one beginning, those that read it last: of more, one is free sooner or later."""
_TRUST_KEPT_MAX = 4096
"""Peers and models whose word is weighed: as many as a ledger has places."""
_TRUST_FADE = 0.7
"""What the trust in a peer keeps with each answer. Three that found nothing kept leave a third, so a
machine whose cache is too small for its callers stops drawing them."""


class Affinity:
    """What prefix went where, and how far that holds."""

    def __init__(self) -> None:
        self._holders: Recent[tuple[ModelName, bytes], dict[PeerId, None]] = Recent(_KEYS_MAX)
        self._trust: Recent[tuple[PeerId, ModelName], float] = Recent(_TRUST_KEPT_MAX)

    def read(self, peer: PeerId, model: ModelName, prefix: Prefix) -> None:
        """`peer` has read a prompt that begins so."""
        for key in prefix.keys:
            holders = self._holders.get((model, key)) or {}
            # Again at the end: those at the front make room.
            holders.pop(peer, None)
            holders[peer] = None
            if len(holders) > _HOLDERS_MAX:
                del holders[next(iter(holders))]
            self._holders.put((model, key), holders)

    def cached_share(self, peer: PeerId, model: ModelName, prefix: Prefix) -> float:
        """Of a prompt, what `peer` probably need not read; 0 to 1."""
        return self.held_share(peer, model, prefix) * self._trust_in(peer, model)

    def held_share(self, peer: PeerId, model: ModelName, prefix: Prefix) -> float:
        """The same with full trust: what `answered` is told."""
        held = 0
        for key in prefix.keys:
            if peer not in (self._holders.get((model, key)) or ()):
                break
            held += 1
        return min(held * prefix.window_share, 1.0)

    def answered(
        self, peer: PeerId, model: ModelName, expected_share: float, prompt_tokens: int, cached_tokens: int
    ) -> None:
        """A prompt, of which `peer` once read `expected_share`, turned out to have so many tokens kept."""
        if expected_share <= 0 or prompt_tokens <= 0:
            return
        found = min(cached_tokens / (expected_share * prompt_tokens), 1.0)
        trust = self._trust_in(peer, model)
        self._trust.put((peer, model), _TRUST_FADE * trust + (1 - _TRUST_FADE) * max(found, 0.0))

    def _trust_in(self, peer: PeerId, model: ModelName) -> float:
        trust = self._trust.get((peer, model))
        return 1.0 if trust is None else trust

    def __len__(self) -> int:
        return len(self._holders)
