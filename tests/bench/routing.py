"""How well requests are routed, simulated around the real router. Writes `docs/routing.md` and its plots.

    make bench-routing            SEEDS=20 for more of them

The engines are stubs with the speed of batching; arrivals, lengths and engines follow the seed alone, so
every run of a seed gives the same figures on any machine. Fails where an aim was missed.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.routing_plots import NAMES, draw_course, draw_newcomer, draw_shared, draw_spread
from tests.bench.routing_scenarios import (
    POLICIES,
    Course,
    newcomer,
    one_degrades,
    one_hangs,
    quantile,
    shared_prompt,
    steady,
)

DOCS = Path(__file__).parents[2] / "docs"
SEEDS = int(os.environ.get("SEEDS", "10"))
P95_AIM, P50_AIM = 0.7, 1.05
"""Of `eta` over `least_used`."""
_AT = 120.0
"""Seconds into a scenario at which something happens."""


def run(scenario: Callable[[str, int], Course]) -> dict[str, list[Course]]:
    """Each policy's courses, one for each seed."""
    return {policy: [scenario(policy, seed) for seed in range(SEEDS)] for policy in POLICIES}


def figures(courses: Sequence[Course], since: float = 60.0, until: float = math.inf) -> list[float]:
    """p50 and p95 of seconds to the last token, and to the first one; and how many never ended."""
    flights = [flight for course in courses for flight in course.counted(since, until)]
    totals, firsts = [flight.total for flight in flights], [flight.ttft for flight in flights]
    lost = sum(math.isinf(total) for total in totals)
    shares = [quantile(some, share) for some in (totals, firsts) for share in (0.5, 0.95)]
    return [*shares, 100 * lost / len(flights)]


def table(courses: dict[str, list[Course]], since: float = 60.0, until: float = math.inf) -> list[str]:
    lines = [
        "| | last token, p50 | p95 | first token, p50 | p95 | never ended |",
        "|---|---|---|---|---|---|",
    ]
    for policy, some in courses.items():
        *seconds, lost = figures(some, since, until)
        lines.append(f"| {NAMES[policy]} | {' | '.join(_seconds(each) for each in seconds)} | {lost:.0f} % |")
    return lines


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f} s"


def compare(courses: dict[str, list[Course]]) -> tuple[list[str], bool]:
    """Each seed's ratios, and whether all aims hold."""
    lines = ["| seed | p95, eta / least used | p50 |", "|---|---|---|"]
    rows = [*((str(seed), seed, seed + 1) for seed in range(SEEDS)), ("all", 0, SEEDS)]
    is_good = True
    for name, since, until in rows:
        mine, theirs = (figures(courses[policy][since:until]) for policy in ("eta", "least_used"))
        p50, p95 = mine[0] / theirs[0], mine[1] / theirs[1]
        is_good = is_good and p95 <= P95_AIM and p50 <= P50_AIM
        lines.append(f"| {name} | {p95:.2f} | {p50:.2f} |")
    return lines, is_good


def main() -> int:
    page = [_INTRODUCTION.format(seeds=SEEDS)]

    plain = run(steady)
    ratios, is_good = compare(plain)
    draw_spread(DOCS / "routing-spread.png", plain)
    page += ["## Speeds 4:1:1:1 at 60 % load\n", *table(plain), "\n![](routing-spread.png)\n", _AIMS, *ratios]

    hanging = run(one_hangs)
    draw_course(DOCS / "routing-hang.png", "One of four peers hangs", hanging, _AT, "it hangs")
    page += [_HANG, *table(hanging, _AT - 5), "\n![](routing-hang.png)"]

    joining = run(newcomer)
    weak = run(lambda policy, seed: newcomer(policy, seed, times=0.25))
    draw_newcomer(DOCS / "routing-newcomer.png", weak, _AT)
    page += [_NEWCOMER, "As fast as the others:\n", *table(joining, _AT)]
    page += ["\nA quarter as fast, the first minute:\n", *table(weak, _AT, _AT + 60)]
    page += ["\n![](routing-newcomer.png)"]

    slowing = run(one_degrades)
    draw_course(
        DOCS / "routing-degrade.png", "One of four peers is five times slower", slowing, _AT, "slower"
    )
    page += [_DEGRADE, *table(slowing, _AT - 5), "\n![](routing-degrade.png)"]

    page += [_SHARED, *_shared_table()]
    (DOCS / "routing.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    print("\n".join([*table(plain), "", *ratios]))
    if not is_good:
        print(f"an aim was missed: p95 {P95_AIM}, p50 {P50_AIM}")
    return 0 if is_good else 1


def _shared_table() -> list[str]:
    lines = ["| | prompt tokens read | first token, p50 | p95 | last token, p95 |", "|---|---|---|---|---|"]
    bars = []
    for policy, knows, name in (
        ("eta", True, "eta"),
        ("eta", False, "eta without affinity"),
        ("least_used", True, "least used"),
        ("random", True, "random"),
        ("localai", True, "LocalAI's rule"),
    ):
        courses = [shared_prompt(policy, seed, knows_prefixes=knows) for seed in range(SEEDS)]
        read = sum(course.read_tokens for course in courses) / SEEDS
        _, p95, ttft, ttft_p95, _ = figures(courses, since=0.0)
        lines.append(f"| {name} | {read:,.0f} | {ttft:.2f} s | {ttft_p95:.2f} s | {p95:.2f} s |")
        bars.append((name, read, ttft))
    draw_shared(DOCS / "routing-shared.png", bars)
    most = [
        max(course.served(since=0.0).values()) / len(course.flights)
        for course in (shared_prompt("eta", seed) for seed in range(SEEDS))
    ]
    lines.append(f"\nThe busiest peer served {100 * max(most):.0f} % of the requests, with any seed.")
    return [*lines, "\n![](routing-shared.png)"]


_INTRODUCTION = """# How requests are routed

Written by `make bench-routing`: a simulation of clients, one front and four engines, around the router
that nodes run (`federation/router.py`). The engines are stubs that batch as one on two cores does (a step of
24, 37 and 92 ms with 1, 4 and 16 answers; 400 tokens of prompts a second) with four slots each; loads are
reported four times a second; arrivals are Poisson, lengths log-normal (prompts of 300 tokens in the median,
answers of 120, a spread of 0.8). {seeds} seeds, ten minutes each, or five where something happens meanwhile.

*eta* is the default policy, *least used* and *random* are the other two, through the same front. *LocalAI's
rule* is that of its federation: the node with the fewest finished connections, whoever is busy; its nodes
queue what they have no slot for, and nobody else is asked where one does not answer.
"""
_AIMS = "The aims are 0.7 of the p95 and at most 1.05 of the p50, with every seed:\n"
_HANG = """
## One of four equal peers hangs

At 50 % load, after two minutes. It answers probes as before, so nobody is told. Whoever asks it goes on
elsewhere after three seconds of silence; after three of these it is left out, and tried again ever more
rarely. Of requests that came later:
"""
_NEWCOMER = """
## A newcomer joins a busy swarm

Three peers at 85 % load, and a fourth that nobody has measured. It says nothing of its speed until it has
given an answer, and is taken to be like the others until then, for one request at a time.
"""
_DEGRADE = """
## One of four equal peers is five times slower from one second to the next

At 50 % load, after two minutes. Its answers are measured while they come, so it is known as slow long before
one of them ends. Of requests that came later:
"""
_SHARED = """
## A system prompt of 1,500 tokens, shared by twenty conversations

Eight turns each, on four equal peers, which keep the beginnings of their last eight prompts.
"""

if __name__ == "__main__":
    sys.exit(main())
