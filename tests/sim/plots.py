"""Plots of the figures over the size of the swarm, with the aims drawn in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from tests.sim.figures import AIMS, Figure

mpl.use("Agg")

_BLUE, _ORANGE, _GREEN = "#2f6db3", "#d9822b", "#3a9d5d"


def draw(folder: Path, figures: Sequence[Figure]) -> None:
    """Write `convergence.png`, `detection.png` and `bytes.png` into `folder`."""
    sheet, axes = _sheet("One write, until it is known by all", "seconds")
    _line(
        axes,
        figures,
        "write known by all",
        label="99 of 100 writes",
        colour=_BLUE,
        value=lambda each: each.p99,
    )
    _line(
        axes, figures, "write known by all", label="half of them", colour=_GREEN, value=lambda each: each.p50
    )
    _aims(axes, "write known by all", _BLUE)
    _save(sheet, axes, folder / "convergence.png")

    sheet, axes = _sheet("A peer is gone, until nobody would choose it", "seconds, 99 of 100 peers")
    for name, label, colour in (
        ("killed, noticed by the connected", "killed: by those connected to it", _GREEN),
        ("killed, noticed by all", "killed: by all", _BLUE),
        ("frozen, suspect everywhere", "frozen: by all", _ORANGE),
    ):
        _line(axes, figures, name, label=label, colour=colour, value=lambda each: each.p99)
        _aims(axes, name, colour, is_explained=colour == _ORANGE)
    _save(sheet, axes, folder / "detection.png")

    sheet, axes = _sheet("An idle node writes to its streams", "bytes a second")
    _line(
        axes, figures, "bytes a second, idle", label="on average", colour=_BLUE, value=lambda each: each.mean
    )
    _line(
        axes,
        figures,
        "bytes a second, idle",
        label="the busiest",
        colour=_ORANGE,
        value=lambda each: each.worst,
    )
    _aims(axes, "bytes a second, idle", _BLUE)
    axes.set_yscale("log")
    axes.set_yticks(
        [100, 300, 1000, 3000, 10_000, 30_000], ["100", "300", "1,000", "3,000", "10,000", "30,000"]
    )
    axes.set_yticks([], minor=True)
    _save(sheet, axes, folder / "bytes.png")


def _sheet(title: str, unit: str) -> tuple[Sheet, Axes]:
    sheet = Sheet(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = sheet.subplots()
    axes.set_title(title)
    axes.set_xlabel("nodes in the swarm")
    axes.set_ylabel(unit)
    axes.set_xscale("log")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return sheet, axes


def _line(
    axes: Axes,
    figures: Sequence[Figure],
    name: str,
    *,
    label: str,
    colour: str,
    value: Callable[[Figure], float],
) -> None:
    points = sorted((each.size, value(each)) for each in figures if each.name == name and not each.view)
    axes.plot([x for x, _ in points], [y for _, y in points], "o-", color=colour, label=label)


def _aims(axes: Axes, name: str, colour: str, *, is_explained: bool = True) -> None:
    points = sorted(AIMS[name].items())
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        "_",
        color=colour,
        markersize=22,
        markeredgewidth=2.5,
        alpha=0.5,
        label="the aim: no more than that" if is_explained else None,
    )


def _save(sheet: Sheet, axes: Axes, path: Path) -> None:
    sizes = sorted({float(x) for line in axes.lines for x in np.asarray(line.get_xdata())})
    axes.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    axes.set_xticks([], minor=True)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    # Without the date and the library's version in it, the same figures are the same file.
    sheet.savefig(path, metadata={"Software": None})
