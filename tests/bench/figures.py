"""What a bench found: figures next to their aims, as one Markdown table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    unit: str
    aim: float | None = None
    """It should be at most this; None where it is there to compare with."""

    @property
    def misses_aim(self) -> bool:
        return self.aim is not None and self.value > self.aim


def table(figures: Iterable[Figure]) -> str:
    """Markdown; a figure that misses its aim says so."""
    rows = ["| figure | measured | aim |", "|---|---:|---:|", *map(_row, figures)]
    return "\n".join(rows)


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` % of at least two `samples` do not exceed."""
    return quantiles(samples, n=100, method="inclusive")[percent - 1]


def _row(figure: Figure) -> str:
    aim = "" if figure.aim is None else f"<= {figure.aim:g} {figure.unit}"
    return f"| {figure.what} | {figure.value:.2f} {figure.unit} | {aim}{' MISSED' * figure.misses_aim} |"
