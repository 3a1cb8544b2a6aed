"""What a bench found: figures next to their aims, as one Markdown table or as plain data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
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

    @property
    def misses_aim(self) -> bool:
        return self.aim is not None and self.value > self.aim


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
            "value": round(figure.value, 4) if isfinite(figure.value) else None,
            "misses_aim": figure.misses_aim,
        }
        for figure in figures
    ]


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` % of at least two `samples` do not exceed."""
    return quantiles(samples, n=100, method="inclusive")[percent - 1]


def _row(figure: Figure) -> str:
    aim = "" if figure.aim is None else f"<= {figure.aim:g} {figure.unit}"
    value = f"{figure.value:.2f} {figure.unit}" if isfinite(figure.value) else "never"
    return f"| {figure.what} | {value} | {aim}{' MISSED' * figure.misses_aim} |"
