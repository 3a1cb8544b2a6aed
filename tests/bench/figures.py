"""What a bench found: figures next to their aims, as one Markdown table or as plain data. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    """Infinite where what was waited for never came."""
    unit: str
    aim: float | None = None
    """It should be at most this; None where it is there to compare with."""
    is_least: bool = False
    """It should be at least `aim`."""

    @property
    def misses_aim(self) -> bool:
        if self.aim is None:
            return False
        return self.value < self.aim if self.is_least else self.value > self.aim


def over_rounds(what: str, samples: Sequence[float], unit: str, aim: float | None) -> Iterator[Figure]:
    """The usual case, and the worst: an aim is for that too."""
    yield Figure(f"{what}, median of {len(samples)}", median(samples), unit, aim)
    yield Figure(f"{what}, longest of {len(samples)}", max(samples), unit, aim)


def table(figures: Iterable[Figure]) -> str:
    """Markdown; a figure that misses its aim says so."""
    rows = ["| figure | measured | aim |", "|---|---:|---:|", *map(_row, figures)]
    return "\n".join(rows)


def facts(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """The same for a program. JSON has no infinity: what never came is null, and misses its aim."""
    return [
        {
            **asdict(figure),
            "value": round(figure.value, 4) if math.isfinite(figure.value) else None,
            "misses_aim": figure.misses_aim,
        }
        for figure in figures
    ]


def figure_of(fact: Mapping[str, Any]) -> Figure:
    """What `facts` made of a figure, back."""
    value = math.inf if fact["value"] is None else fact["value"]
    return Figure(fact["what"], value, fact["unit"], fact["aim"], is_least=fact["is_least"])


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` % of at least two `samples` do not exceed."""
    return quantiles(samples, n=100, method="inclusive")[percent - 1]


def _row(figure: Figure) -> str:
    relation = ">=" if figure.is_least else "<="
    aim = "" if figure.aim is None else f"{relation} {figure.aim:g} {figure.unit}"
    value = f"{figure.value:.2f} {figure.unit}" if math.isfinite(figure.value) else "never"
    return f"| {figure.what} | {value} | {aim}{' MISSED' * figure.misses_aim} |"
