"""Runs the scenarios, prints the table, and writes `docs/simulation.md` with its plots: `make sim`.

    python tests/sim/run.py                           everything: an hour or so on two cores
    python tests/sim/run.py writes deaths --size 100  only these; docs/ stays as it is
    HOURS=50 python tests/sim/run.py                  shorter; docs/ stays as it is, too
    SEED=7 python tests/sim/run.py                    other runs; the same seed gives the same figures
    python tests/sim/run.py --keep /tmp/runs          what is in that file is not run again: to go on later
    python tests/sim/run.py --draw                    docs/ again, from the figures in docs/simulation.json

Progress goes to stderr. It fails where an aim was missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

from tests.sim.figures import Figure, figure
from tests.sim.plan import HOURS, Job, jobs
from tests.sim.report import table, write_report
from tests.sim.scenarios import SCENARIOS, Samples

DOCS = Path(__file__).parent.parent.parent / "docs"
FIGURES = DOCS / "simulation.json"

Run: TypeAlias = tuple[Job, Samples]


def main() -> None:
    arguments = _arguments()
    seed = int(os.environ.get("SEED", "1"))
    if arguments.draw:
        written = json.loads(FIGURES.read_text(encoding="utf-8"))
        write_report(DOCS, [Figure.from_json(row) for row in written["figures"]], written["seed"])
        return
    hours = float(os.environ.get("HOURS", str(HOURS)))
    todo = jobs(seed, hours, set(arguments.scenarios), set(arguments.size))
    print(f"SEED={seed}: {len(todo)} runs", flush=True)
    kept = Path(arguments.keep) if arguments.keep else None
    figures = summarise(run_all(todo, arguments.processes, kept))
    print(table(figures))
    is_whole = not arguments.scenarios and not arguments.size and hours == HOURS
    if is_whole or arguments.json:
        path = Path(arguments.json) if arguments.json else FIGURES
        path.parent.mkdir(exist_ok=True)
        rows = [each.to_json() for each in figures]
        path.write_text(json.dumps({"seed": seed, "figures": rows}, indent=1) + "\n", encoding="utf-8")
    if is_whole:
        write_report(DOCS, figures, seed)
    if any(each.is_reached is False for each in figures):
        sys.exit(1)


def run_all(todo: list[Job], processes: int, kept: Path | None) -> list[Run]:
    """Run each job that is not in `kept` yet, as many at a time as there are cores."""
    done = _read(kept) if kept is not None else {}
    missing = [job for job in todo if str(job) not in done]
    begun = time.monotonic()
    # Workers are replaced now and then: memory that Python does not give back ends with them.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=8) as pool:
        for job, samples in pool.imap_unordered(run_job, missing):
            done[str(job)] = samples
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([str(job), samples]) + "\n")
            passed = time.monotonic() - begun
            print(f"{passed:6.0f} s  {len(done)}/{len(todo)}  {job}", file=sys.stderr, flush=True)
    return [(job, done[str(job)]) for job in todo]


def run_job(job: Job) -> Run:
    """The samples of one job."""
    # A swarm of a thousand is millions of objects that all live to the end: to look for cycles among
    # them again and again would take a third of the time.
    gc.disable()
    try:
        return job, SCENARIOS[job.scenario](job.case)
    finally:
        gc.enable()
        gc.collect()


def _read(kept: Path) -> dict[str, Samples]:
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    return dict(json.loads(line) for line in lines)


def summarise(done: list[Run]) -> list[Figure]:
    """The figures of all runs, whatever order they ended in."""
    samples: defaultdict[tuple[str, int, str], list[float]] = defaultdict(list)
    for job, measured in sorted(done, key=lambda each: str(each[0])):
        for name, values in measured.items():
            samples[name, job.size, job.view] += values
    return [figure(name, size, view, values) for (name, size, view), values in sorted(samples.items())]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate swarms, and say how they do.")
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], metavar="|".join(SCENARIOS))
    parser.add_argument("--size", type=int, action="append", default=[], help="only swarms of so many nodes")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--keep", help="keep each run in this file, and skip those that are there already")
    parser.add_argument("--draw", action="store_true", help="write docs/ from the figures of the last run")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
