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

Drops: TypeAlias = NDArray[np.float64]
"""How far scores are below the highest of them: 0 and up, in order. e to the minus that is a weight, how many
times as likely as the likeliest."""

TEMPERATURE_MIN = 1e-3
"""Scores divided by less tell one token from the next by hundreds: the likeliest has won."""

_SHORTLIST = 1024
"""Tokens looked at where `top_k` is off. Where that does not reach far enough, all of them are sorted:
20 ms with a vocabulary of 262,144."""

_DROP_MAX = 700.0
"""A token with a larger drop adds nothing to a sum: e to the minus that is nearly the smallest of floats."""

_LOOKBACK_MAX = 4096
"""Tokens that `repeat_last_n` can reach back: sorting them takes 0.1 ms a token."""

_LOWEST = np.finfo(np.float32).min
"""The score of a token that can come is at least that; minus infinity is less."""


def likeliest(scores: Scores, count: int) -> Ids:
    """The ids of the `count` highest `scores`, highest first; of equal ones, the smaller id first.

    Those that cannot come (minus infinity) are left out.
    """
    found = (scores >= _LOWEST).nonzero()[0] if count >= len(scores) else _candidates(scores, count)
    # All that equal the last one stay until they are in order: which of them is cut must not depend on luck.
    ordered: Ids = found[(-scores[found]).argsort(kind="stable")[:count]]
    return ordered


def _candidates(scores: Scores, count: int) -> Ids:
    """Ids, in order, among which are the `count` highest.

    The scores are laid out in rows of a table. The highest of each column are found fast, and at least as
    many scores as columns reach the `count` highest of those: all others are not among the highest.
    """
    # Wide enough that few columns are looked into, and not so wide that the columns themselves are many.
    width = 1 << ((len(scores) * count).bit_length() + 1) // 2
    rows = len(scores) // width
    if rows < 2:
        return (scores >= _LOWEST).nonzero()[0]
    table = scores[: rows * width].reshape(rows, width)
    maxima = table.max(axis=0)
    highest = maxima.copy()
    highest.partition(width - count)
    # Of a grammar that allows little, the threshold is minus infinity, and everything would reach it.
    threshold = max(highest[width - count], _LOWEST)
    columns = (maxima >= threshold).nonzero()[0]
    row, column = (table[:, columns] >= threshold).nonzero()
    found: Ids = row * width + columns[column]
    if rows * width == len(scores):
        return found
    rest = rows * width + (scores[rows * width :] >= threshold).nonzero()[0]
    return np.concatenate([found, rest])


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
        ids, drops = self.candidates(scores)
        cumulated = np.exp(drops / -self.sampling.temperature).cumsum()
        # `chance` of the last sum is less than that, so a token that adds nothing is never found.
        return int(ids[cumulated.searchsorted(chance * cumulated[-1], side="right")])

    def candidates(self, scores: Scores) -> tuple[Ids, Drops]:
        """Those that may be drawn, likeliest first, with their drops before temperature."""
        if 0 < self.sampling.top_k < len(scores):
            ids = likeliest(scores, self.sampling.top_k)
            return self._cut(ids, _drops(scores, ids))
        ids = likeliest(scores, _SHORTLIST)
        drops = _drops(scores, ids)
        total = math.exp(log_normaliser(scores) - float(scores[ids[0]]))
        if self.sampling.typical_p >= 1 and self._is_cut_within(drops, total):
            return self._cut(ids, drops, total)
        ids = likeliest(scores, len(scores))
        return self._cut(ids, _drops(scores, ids))

    @property
    def _drop_max(self) -> float:
        return -math.log(self.sampling.min_p) if self.sampling.min_p > 0 else _DROP_MAX

    def _is_cut_within(self, drops: Drops, total: float) -> bool:
        """Nothing after these would be taken."""
        is_enough = self.sampling.top_p < 1 and np.exp(-drops).sum() >= self.sampling.top_p * total
        return bool(is_enough or drops[-1] > self._drop_max)

    def _cut(self, ids: Ids, drops: Drops, total: float = 0.0) -> tuple[Ids, Drops]:
        """`total`: of all weights, if not that of these."""
        if self.sampling.typical_p < 1:
            weights = np.exp(-drops)
            kept = _typical(weights / weights.sum(), self.sampling.typical_p)
            ids, drops = ids[kept], drops[kept] - drops[kept][0]
        count = int(drops.searchsorted(self._drop_max, side="right"))
        if self.sampling.top_p < 1:
            cumulated = np.exp(-drops).cumsum()
            enough = self.sampling.top_p * (total or cumulated[-1])
            count = min(count, int(cumulated.searchsorted(enough)) + 1)
        count = max(1, count)
        return ids[:count], drops[:count]


def _drops(scores: Scores, ids: Ids) -> Drops:
    found = scores[ids].astype(np.float64)
    drops: Drops = found[0] - found
    return drops


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
    _penalises: bool = False
    change_anything: bool = False
    """Whether `apply` ever does."""

    def __post_init__(self) -> None:
        self._penalises = bool(self.sampling.presence_penalty or self.sampling.frequency_penalty)
        biases = dict(self.sampling.logit_bias)
        biases.update(dict.fromkeys(self.banned, -math.inf))
        if biases:
            ids = np.fromiter(biases, np.intp, len(biases))
            self._biased = ids, np.fromiter(biases.values(), np.float32, len(biases))
        if self.sampling.repeat_penalty != 1:
            self._latest = self._tail(list(self.prompt))
        self.change_anything = bool(biases or self.sampling.repeat_penalty != 1 or self._penalises)

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
    def _window(self) -> int:
        window = self.sampling.repeat_last_n
        return min(window, _LOOKBACK_MAX) if window >= 0 else _LOOKBACK_MAX

    def _tail(self, tokens: list[int]) -> list[int]:
        return tokens[max(0, len(tokens) - self._window) :]
