"""Plots of what the routing scenarios gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from tests.bench.routing_scenarios import Course, quantile

mpl.use("Agg")

NAMES = {
    "eta": "eta",
    "least_used": "least used",
    "random": "random",
    "localai": "LocalAI's rule",
}
_COLOURS = {"eta": "#2f6db3", "least_used": "#3a9d5d", "random": "#888888", "localai": "#d9822b"}
_SLICE = 20.0
"""Seconds of arrivals that make one point."""


def draw_spread(path: Path, courses: Mapping[str, Sequence[Course]]) -> None:
    """Of how many requests the last token was there after so many seconds."""
    sheet, axes = _sheet("Speeds 4:1:1:1 at 60 % load", "seconds to the last token", "share of requests")
    for policy, some in courses.items():
        totals = sorted(flight.total for course in some for flight in course.counted())
        shares = [(number + 1) / len(totals) for number in range(len(totals))]
        axes.plot(totals, shares, color=_COLOURS[policy], label=NAMES[policy])
    axes.axhline(0.95, color="#bbbbbb", linewidth=0.8)
    axes.set_xscale("log")
    _save(sheet, axes, path)


def draw_course(
    path: Path, title: str, courses: Mapping[str, Sequence[Course]], at: float, words: str
) -> None:
    """The p95 of requests by when they came. What never ended is not drawn, and breaks the line."""
    sheet, axes = _sheet(title, "seconds since the start", "p95 of seconds to the last token")
    for policy, some in courses.items():
        last = max(flight.ask.at for course in some for flight in course.flights)
        points = []
        since = 20.0
        while since + _SLICE <= last:
            totals = [f.total for course in some for f in course.counted(since, since + _SLICE)]
            worst = quantile(totals, 0.95)
            points.append((since + _SLICE / 2, worst if math.isfinite(worst) else math.nan))
            since += _SLICE
        axes.plot([x for x, _ in points], [y for _, y in points], color=_COLOURS[policy], label=NAMES[policy])
    axes.axvline(at, color="#bbbbbb", linewidth=0.8)
    axes.text(at + 2, 0.02, words, fontsize=8, color="#777777", transform=axes.get_xaxis_transform())
    axes.set_yscale("log")
    _save(sheet, axes, path)


def draw_newcomer(path: Path, courses: Mapping[str, Sequence[Course]], at: float) -> None:
    """What runs on the newcomer."""
    sheet, axes = _sheet(
        "A newcomer a quarter as fast as the others", "seconds since it joined", "answers that run on it"
    )
    for policy, some in courses.items():
        by_time: dict[float, list[int]] = {}
        for course in some:
            for when, running in course.samples:
                if at - 5 <= when < at + 150:
                    by_time.setdefault(round(when / 2) * 2 - at, []).append(running.get("new", 0))
        times = sorted(by_time)
        means = [sum(by_time[each]) / len(by_time[each]) for each in times]
        axes.plot(times, means, color=_COLOURS[policy], label=NAMES[policy])
    _save(sheet, axes, path)


def draw_shared(path: Path, rows: Sequence[tuple[str, float, float]]) -> None:
    """How many tokens of prompts were read, and the time to the first token."""
    sheet = Sheet(figsize=(7, 3.6), dpi=110, layout="constrained")
    left, right = sheet.subplots(1, 2)
    names = [name for name, _, _ in rows]
    for axes, values, title in (
        (left, [tokens / 1000 for _, tokens, _ in rows], "thousand prompt tokens read"),
        (right, [ttft for _, _, ttft in rows], "p50 of seconds to the first token"),
    ):
        axes.barh(names[::-1], values[::-1], color="#2f6db3")
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    sheet.savefig(path, metadata={"Software": None})


def _sheet(title: str, x: str, y: str) -> tuple[Sheet, Axes]:
    sheet = Sheet(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = sheet.subplots()
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return sheet, axes


def _save(sheet: Sheet, axes: Axes, path: Path) -> None:
    axes.legend(frameon=False)
    # Without the date and the library's version in it, the same figures are the same file.
    sheet.savefig(path, metadata={"Software": None})
