"""Figures: what the samples of many runs say, and what they should say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

AIMS: dict[str, dict[int, float]] = {
    "write known by all": {10: 2.0, 100: 3.0, 1000: 5.0},
    "killed, noticed by the connected": {10: 1.0, 100: 1.0, 1000: 1.0},
    "killed, noticed by all": {10: 1.0, 100: 1.0, 1000: 5.0},
    "frozen, suspect everywhere": {10: 3.0, 100: 4.0, 1000: 6.0},
    "bytes a second, idle": {10: 1500.0, 100: 3000.0, 1000: 20_000.0},
    "false offline": {10: 0.0, 100: 0.0},
}
"""By figure and size: the most its 99th percentile may be; of bytes the mean, of mistakes their number."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured at one size."""

    name: str
    size: int
    view: str
    """Empty: the one the program has."""
    count: int
    """Samples."""
    total: float
    mean: float
    p50: float
    p99: float
    worst: float
    """The largest."""

    @property
    def aim(self) -> float | None:
        return None if self.view else AIMS.get(self.name, {}).get(self.size)

    @property
    def judged(self) -> float:
        """What is held against the aim."""
        if self.name == "false offline":
            return self.total
        return self.mean if self.name == "bytes a second, idle" else self.p99

    @property
    def is_reached(self) -> bool | None:
        """None: nobody said what it should be."""
        return None if self.aim is None else self.judged <= self.aim

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"aim": self.aim, "is_reached": self.is_reached}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Figure:
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


def figure(name: str, size: int, view: str, samples: Iterable[float]) -> Figure:
    """What `samples` say."""
    ordered = sorted(samples)
    total = math.fsum(ordered)
    return Figure(
        name=name,
        size=size,
        view=view,
        count=len(ordered),
        total=total,
        mean=total / len(ordered),
        p50=percentile(ordered, 0.5),
        p99=percentile(ordered, 0.99),
        worst=ordered[-1],
    )


def percentile(ordered: list[float], share: float) -> float:
    """The smallest sample that is not exceeded by `share` of all (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def most_likely_below(count: int, confidence: float = 0.95) -> float:
    """If `count` rare things were seen: the mean that is not exceeded, with that confidence.

    Of Poisson's distribution; for none it is the rule of three.
    """
    low, high = 0.0, 10.0 * (count + 1)
    while high - low > 1e-6:
        middle = (low + high) / 2
        term = chance = math.exp(-middle)
        for seen in range(1, count + 1):
            term *= middle / seen
            chance += term
        low, high = (middle, high) if chance > 1 - confidence else (low, middle)
    return high
