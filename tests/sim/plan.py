"""Plan: which scenarios run with how many seeds, and what the figures should be.

A job is one scenario with one size and one seed: what one process does at a time. The
seeds of all jobs follow from one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from p2p.neighbours import NeighboursConfig
from tests.sim.node import Settings
from tests.sim.scenarios import Case

MESH = "full mesh"
VIEWS: dict[str, NeighboursConfig] = {
    "8": NeighboursConfig(min=6, max=8),
    "16": NeighboursConfig(min=12, max=16),
    "24-32": NeighboursConfig(),
    "48": NeighboursConfig(min=36, max=48),
    MESH: NeighboursConfig(min=4096, max=4096),
}
"""By name: how many neighbours nodes keep."""
VIEW_SIZES = (100, 300, 1000)

RUNS: dict[str, dict[int, tuple[int, float]]] = {
    # Scenario: size: how many seeds, and how much of it in each run (writes, or victims).
    "writes": {10: (4, 100), 30: (4, 100), 100: (4, 100), 300: (2, 100), 1000: (4, 50)},
    "deaths": {10: (8, 25), 30: (8, 25), 100: (4, 50), 300: (2, 50), 1000: (4, 50)},
    "freezes": {10: (8, 25), 30: (8, 25), 100: (4, 50), 300: (2, 50), 1000: (4, 50)},
    "idle": {10: (4, 0), 30: (4, 0), 100: (4, 0), 300: (1, 0), 1000: (1, 0)},
    "newcomer": {10: (40, 0), 100: (20, 0), 1000: (6, 0)},
    "split": {10: (20, 0), 100: (6, 0), 1000: (1, 0)},
}

HOURS = 1000.0
"""Simulated node-hours in which nobody well should be called offline."""
_MISTAKES: dict[int, tuple[int, float]] = {10: (20, 1.0), 100: (20, 1.0), 1000: (2, 0.0625)}
"""By size: into how many runs they are cut, and what part of them is run. An hour of a thousand nodes costs
as much as a week of ten, and no number is aimed at."""

_MESH_SIZE_MAX = 300
"""Of a full mesh. One of a thousand is a million ends of connections: 3.5 GB, and a quarter of an hour before
the first write. What it costs is seen from 100 to 300."""

_VIEW_CASES = 10
"""Writes, victims killed, and victims stopped, for each size of the view."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does at a time."""

    scenario: str
    size: int
    seed: int
    amount: float
    view: str = ""
    """Name of the view; empty: the one the program has."""

    @property
    def case(self) -> Case:
        settings = Settings(neighbours=VIEWS[self.view]) if self.view else Settings()
        return Case(self.size, self.seed, settings, self.amount)

    @property
    def weight(self) -> float:
        """Roughly how long it takes, in no unit: of one scenario the longest go first."""
        if self.scenario == "mistakes":
            return math.sqrt(self.size) * self.amount
        return self.size * (20 if self.view == MESH else 4 if self.view else 1)

    def __str__(self) -> str:
        view = f", view {self.view}" if self.view else ""
        return f"{self.scenario} of {self.size}{view}, seed {self.seed}, amount {self.amount:g}"


_ORDER = ("idle", "writes", "deaths", "freezes", "newcomer", "mistakes", "view", "split")
"""What runs first: an interrupted run then has the figures that matter most."""


def jobs(seed: int, hours: float, scenarios: set[str], sizes: set[int]) -> list[Job]:
    """All that is asked for; empty sets ask for everything."""
    wanted = [
        job
        for job in (*_plain(seed), *_mistakes(seed, hours), *_views(seed))
        if (not scenarios or job.scenario in scenarios) and (not sizes or job.size in sizes)
    ]
    return sorted(wanted, key=lambda job: (_ORDER.index(job.scenario), -job.weight))


def _plain(seed: int) -> Iterator[Job]:
    for scenario, by_size in RUNS.items():
        for size, (count, amount) in by_size.items():
            yield from (Job(scenario, size, seed * 1000 + number, amount) for number in range(count))


def _mistakes(seed: int, hours: float) -> Iterator[Job]:
    for size, (count, share) in _MISTAKES.items():
        amount = hours * share / count
        yield from (Job("mistakes", size, seed * 1000 + number, amount) for number in range(count))


def _views(seed: int) -> Iterator[Job]:
    for view in VIEWS:
        sizes = (size for size in VIEW_SIZES if view != MESH or size <= _MESH_SIZE_MAX)
        yield from (Job("view", size, seed * 1000, _VIEW_CASES, view) for size in sizes)
