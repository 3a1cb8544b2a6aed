"""Sampling: from the scores of a whole vocabulary to one token.

    scores --biases, penalties, grammar--> shortlist --typical, top_p, min_p--> temperature --> draw

In the order of llama.cpp (common.h). Its own samplers keep their random
state to themselves; here a draw depends on the seed, the choice and the place in the answer
alone, so another machine can go on where this one died. On a large vocabulary numpy finds the
likeliest tokens twice as fast, too.

Draws no randomness of its own: who asks brings a seed.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from node.engine.wire import FilledSampling

Scores: TypeAlias = NDArray[np.float32]
"""One per token of the vocabulary; not normalised."""

Ids: TypeAlias = NDArray[np.intp]

TEMPERATURE_MIN = 1e-3
"""Scores divided by less tell one token from the next by hundreds: the likeliest has won."""

_SHORTLIST = 1024
"""Tokens looked at where `top_k` is off. Where that does not reach far enough, all of them are sorted:
20 ms with a vocabulary of 262,144."""

_LOOKBACK_MAX = 4096
"""Tokens that `repeat_last_n` can reach back: sorting them takes 0.1 ms a token."""

_LOWEST = np.finfo(np.float32).min
"""The score of a token that can come is at least that; minus infinity is less."""


def likeliest(scores: Scores, count: int) -> Ids:
    """The ids of the `count` highest `scores`, highest first; of equal ones, the smaller id first.

    Those that cannot come (minus infinity) are left out.
    """
    found = np.flatnonzero(scores >= _LOWEST) if count >= len(scores) else _candidates(scores, count)
    # All that equal the last one stay until they are in order: which of them is cut must not depend on luck.
    ordered: Ids = found[np.argsort(-scores[found], kind="stable")]
    return ordered[:count]


def _candidates(scores: Scores, count: int) -> Ids:
    """Ids, in order, among which are the `count` highest.

    The scores are laid out in rows of a table. The highest of each column are found fast, and at least as
    many scores as columns reach the `count` highest of those: all others are not among the highest.
    """
    # Wide enough that few columns are looked into, and not so wide that the columns themselves are many.
    width = 1 << ((len(scores) * count).bit_length() + 1) // 2
    rows = len(scores) // width
    if rows < 2:
        return np.flatnonzero(scores >= _LOWEST)
    table = scores[: rows * width].reshape(rows, width)
    maxima = table.max(axis=0)
    # Of a grammar that allows little, the threshold is minus infinity, and everything would reach it.
    threshold = max(np.partition(maxima, width - count)[width - count], _LOWEST)
    columns = np.flatnonzero(maxima >= threshold)
    row, column = np.nonzero(table[:, columns] >= threshold)
    rest = rows * width + np.flatnonzero(scores[rows * width :] >= threshold)
    return np.concatenate([row * width + columns[column], rest])


def log_normaliser(scores: Scores) -> float:
    """The logarithm of the sum of all exponentials: a score minus it is a log probability."""
    highest = float(scores.max())
    return highest + math.log(float(np.exp(scores - np.float32(highest)).sum(dtype=np.float64)))


def draw(seed: int, choice: int, place: int) -> float:
    """A number from 0 up to but not 1, the same for the same three, and like chance for others."""
    digest = hashlib.blake2b(struct.pack("<Qqq", seed & (2**64 - 1), choice, place), digest_size=8).digest()
    # As many bits as a float has: of more, the largest numbers would be rounded to 1.
    return (int.from_bytes(digest, "little") >> 11) / 2**53


@dataclass(frozen=True, slots=True)
class Rules:
    """Which token is chosen of those that may come."""

    sampling: FilledSampling

    @property
    def is_greedy(self) -> bool:
        """Always the likeliest."""
        return self.sampling.temperature < TEMPERATURE_MIN or self.sampling.top_k == 1

    def choose(self, scores: Scores, chance: float) -> int:
        """The token for `chance`, a number from 0 up to but not 1. At least one score must be finite."""
        if self.is_greedy:
            return int(scores.argmax())
        ids, probabilities = self.candidates(scores)
        cumulated = np.cumsum(self._tempered(probabilities))
        # `chance` of the last sum is less than that, so a token that adds nothing is never found.
        return int(ids[int(np.searchsorted(cumulated, chance * cumulated[-1], side="right"))])

    def candidates(self, scores: Scores) -> tuple[Ids, NDArray[np.float64]]:
        """Those that may be drawn, likeliest first, with their probabilities before temperature."""
        if 0 < self.sampling.top_k < len(scores):
            return self._cut(*_with_probabilities(scores, likeliest(scores, self.sampling.top_k)))
        total = log_normaliser(scores)
        ids = likeliest(scores, _SHORTLIST)
        probabilities = np.exp(scores[ids].astype(np.float64) - total)
        if self.sampling.typical_p >= 1 and self._is_cut_within(probabilities):
            return self._cut(ids, probabilities)
        return self._cut(*_with_probabilities(scores, likeliest(scores, len(scores))))

    def _is_cut_within(self, probabilities: NDArray[np.float64]) -> bool:
        """Nothing after these would be taken."""
        is_enough = self.sampling.top_p < 1 and float(probabilities.sum()) >= self.sampling.top_p
        return is_enough or bool(probabilities[-1] < self.sampling.min_p * probabilities[0])

    def _cut(self, ids: Ids, probabilities: NDArray[np.float64]) -> tuple[Ids, NDArray[np.float64]]:
        if self.sampling.typical_p < 1:
            kept = _typical(probabilities, self.sampling.typical_p)
            ids, probabilities = ids[kept], probabilities[kept] / probabilities[kept].sum()
        count = len(ids)
        if self.sampling.top_p < 1:
            count = min(count, int(np.searchsorted(np.cumsum(probabilities), self.sampling.top_p)) + 1)
        if self.sampling.min_p > 0:
            count = min(count, int((probabilities >= self.sampling.min_p * probabilities[0]).sum()))
        # What a grammar forbids may be on the shortlist where it allows little.
        count = max(1, min(count, int(np.count_nonzero(probabilities))))
        return ids[:count], probabilities[:count]

    def _tempered(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        # Relative to the likeliest, so that no power of a small number becomes nothing but zeros.
        tempered: NDArray[np.float64] = (probabilities / probabilities[0]) ** (1 / self.sampling.temperature)
        return tempered


def _with_probabilities(scores: Scores, ids: Ids) -> tuple[Ids, NDArray[np.float64]]:
    weights = np.exp(scores[ids].astype(np.float64) - float(scores[ids[0]]))
    return ids, weights / weights.sum()


def _typical(probabilities: NDArray[np.float64], enough: float) -> NDArray[np.bool_]:
    """Which to keep: those nearest to the expected surprise, until they are `enough` (Meister 2022)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(probabilities)
        expected = float(np.nansum(probabilities * surprise))
        order = np.argsort(np.abs(surprise - expected), kind="stable")
    count = int(np.searchsorted(np.cumsum(probabilities[order]), enough, side="right")) + 1
    kept = np.zeros(len(probabilities), np.bool_)
    kept[order[:count]] = True
    return kept


@dataclass(slots=True)
class Adjustments:
    """What changes the scores of one sequence before a token is chosen, as it grows.

    `repeat_penalty` looks back at the prompt too, as in llama.cpp; the penalties of OpenAI count
    what was generated.
    """

    sampling: FilledSampling
    prompt: Sequence[int]
    banned: Collection[int] = ()
    """Tokens that must not come."""
    _generated: Counter[int] = field(default_factory=Counter)
    _latest: list[int] = field(default_factory=list)
    """The tail that `repeat_penalty` looks at."""
    _biased: tuple[Ids, Scores] | None = None

    def __post_init__(self) -> None:
        biases = dict(self.sampling.logit_bias)
        biases.update(dict.fromkeys(self.banned, -math.inf))
        if biases:
            ids = np.fromiter(biases, np.intp, len(biases))
            self._biased = ids, np.fromiter(biases.values(), np.float32, len(biases))
        if self.sampling.repeat_penalty != 1:
            self._latest = self._tail(list(self.prompt))

    @property
    def change_anything(self) -> bool:
        """Whether `apply` ever does."""
        return self._biased is not None or self.sampling.repeat_penalty != 1 or self._penalises

    def accept(self, token: int) -> None:
        """`token` was generated."""
        if self._penalises:
            self._generated[token] += 1
        if self.sampling.repeat_penalty != 1:
            self._latest.append(token)
            if len(self._latest) > 2 * self._window:
                self._latest = self._tail(self._latest)

    def apply(self, scores: Scores) -> None:
        """Change `scores` in place."""
        if self._biased is not None:
            ids, biases = self._biased
            scores[ids] += biases
        if self.sampling.repeat_penalty != 1 and self._latest:
            ids = np.unique(np.array(self._tail(self._latest), np.intp))
            values = scores[ids]
            factor = np.float32(self.sampling.repeat_penalty)
            scores[ids] = np.where(values > 0, values / factor, values * factor)
        if self._generated:
            ids = np.fromiter(self._generated, np.intp, len(self._generated))
            counts = np.fromiter(self._generated.values(), np.float32, len(self._generated))
            presence = np.float32(self.sampling.presence_penalty)
            scores[ids] -= presence + np.float32(self.sampling.frequency_penalty) * counts

    @property
    def _penalises(self) -> bool:
        return bool(self.sampling.presence_penalty or self.sampling.frequency_penalty)

    @property
    def _window(self) -> int:
        window = self.sampling.repeat_last_n
        return min(window, _LOOKBACK_MAX) if window >= 0 else _LOOKBACK_MAX

    def _tail(self, tokens: list[int]) -> list[int]:
        return tokens[max(0, len(tokens) - self._window) :]
