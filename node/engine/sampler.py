"""Sampler: chooses the tokens of one choice, one after the other, and says how likely they were.

scores --> log probabilities, as the model gave them
   +-----> biases and penalties --> grammar --> candidates --> draw
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from federation.backend import TokenLogprob
from node.engine.sampling import Adjustments, Rules, Scores, draw, likeliest, log_normaliser

_CHANCES_AT_ONCE = 16
"""Draws that are made together. Weights have passed through the processor's caches since the last step and
left nothing of the hash in them, so that one draw takes as long as ten."""


class Grammar(Protocol):
    """Which tokens may come next: `constraint.GrammarState`."""

    @property
    def is_over(self) -> bool: ...
    def restrict(self, scores: Scores) -> bool: ...
    def accept(self, token: int) -> bool: ...
    def copy(self) -> Grammar:
        """The same place in it, which goes on by itself."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token that was chosen."""

    token: int
    logprobs: tuple[TokenLogprob, ...] = ()
    """One, if it was asked for."""


@dataclass(slots=True)
class Sampler:
    """Of one choice. `sample`, then `accept` what was sampled; or `accept` what was delivered before."""

    rules: Rules
    adjustments: Adjustments
    grammar: Grammar | None
    seed: int
    choice: int
    top_logprobs: int | None
    piece: Callable[[int], bytes]
    """The bytes of a token."""
    place: int = 0
    """Tokens accepted."""
    _chances: list[float] = field(default_factory=list)
    """Of the places from `_chances_from` on."""
    _chances_from: int = 0

    def sample(self, scores: Scores) -> Sampled | None:
        """The next token; None: the grammar lets none come. `scores` stay as they are."""
        adjusted = scores
        if self.adjustments.change_anything or self.grammar is not None:
            adjusted = scores.copy()
            self.adjustments.apply(adjusted)
        if self.grammar is not None and not self.grammar.restrict(adjusted):
            return None
        token = self.rules.choose(adjusted, self._chance())
        if self.top_logprobs is None:
            return Sampled(token)
        return Sampled(token, (self._logprob(scores, token, self.top_logprobs),))

    def accept(self, token: int) -> bool:
        """`token` is part of the answer. False: the grammar does not allow it."""
        self.place += 1
        self.adjustments.accept(token)
        return self.grammar is None or self.grammar.accept(token)

    @property
    def is_over(self) -> bool:
        """The grammar is complete: nothing may follow."""
        return self.grammar is not None and self.grammar.is_over

    def _chance(self) -> float:
        """The draw of this place."""
        ahead = self.place - self._chances_from
        if ahead >= len(self._chances):
            places = range(self.place, self.place + _CHANCES_AT_ONCE)
            self._chances = [draw(self.seed, self.choice, place) for place in places]
            self._chances_from, ahead = self.place, 0
        return self._chances[ahead]

    def _logprob(self, scores: Scores, token: int, top: int) -> TokenLogprob:
        normaliser = log_normaliser(scores)
        best = likeliest(scores, top) if top else ()
        return TokenLogprob(
            self.piece(token),
            float(scores[token]) - normaliser,
            tuple((self.piece(int(each)), float(scores[each]) - normaliser) for each in best),
        )
