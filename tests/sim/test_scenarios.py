"""The figures of `make sim`, for small swarms and few samples: every scenario runs, and reaches its aim."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.sim.figures import AIMS, Figure, figure, most_likely_below, percentile
from tests.sim.plan import jobs
from tests.sim.report import table
from tests.sim.run import run_job, summarise
from tests.sim.scenarios import SCENARIOS, Case

AMOUNTS = {"writes": 20.0, "deaths": 4.0, "freezes": 4.0, "mistakes": 1.0, "view": 3.0}


def figures_of(scenario: str, size: int) -> dict[str, Figure]:
    samples = SCENARIOS[scenario](Case(size, 1, amount=AMOUNTS.get(scenario, 0.0)))
    return {name: figure(name, size, "", values) for name, values in samples.items()}


@pytest.mark.parametrize("scenario", ["writes", "deaths", "freezes", "idle", "mistakes"])
def test_a_swarm_of_ten_reaches_each_aim(scenario: str) -> None:
    judged = [each for each in figures_of(scenario, 10).values() if each.aim is not None]
    assert judged
    assert all(each.is_reached for each in judged), judged


def test_a_hundred_reach_the_aims_that_are_measured_quickly() -> None:
    for scenario in ("writes", "idle"):
        judged = [each for each in figures_of(scenario, 100).values() if each.aim is not None]
        assert all(each.is_reached for each in judged), judged


def test_a_split_swarm_heals_and_a_newcomer_is_at_home_soon() -> None:
    assert figures_of("split", 10)["a split heals"].worst < 70.0
    assert figures_of("newcomer", 10)["newcomer knows all"].worst < 5.0


def test_half_a_swarm_of_forty_may_die_and_the_rest_hangs_together() -> None:
    found = figures_of("halving", 40)
    assert found["reachable after half died"].mean == 1.0
    assert found["half died, noticed by all"].worst < 10.0


def test_the_same_job_measures_the_same() -> None:
    job = next(job for job in jobs(3, 1.0, {"writes"}, {10}))
    assert run_job(job) == run_job(job)


def test_the_table_shows_each_aim_and_whether_it_was_reached() -> None:
    done = [run_job(job) for job in jobs(1, 0.1, {"writes", "mistakes"}, {10})[:6]]
    shown = table(summarise(done))
    assert "| write known by all | " in shown
    assert f"aim {AIMS['write known by all'][10]:.0f} s" in shown
    late = [figure("write known by all", 10, "", [9.0])]
    assert "**missed**" in table(late)


def test_the_bound_on_what_was_never_seen_is_the_rule_of_three() -> None:
    assert most_likely_below(0) == pytest.approx(-math.log(0.05), abs=1e-4)
    assert most_likely_below(1) == pytest.approx(4.744, abs=1e-3)  # Garwood's table.
    assert most_likely_below(10) == pytest.approx(16.962, abs=1e-3)


def test_a_percentile_is_a_sample() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0


def test_plotting_is_all_that_needs_the_plotting_library() -> None:
    importers = [
        path.name
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if "import matplotlib" in path.read_text(encoding="utf-8") and path.name != Path(__file__).name
    ]
    assert importers == ["plots.py"]
