"""A bench script's main program: measures what it was asked for, prints one table.

    python tests/bench/run.py                   everything it can
    python tests/bench/run.py deaths idle       only these
    python tests/bench/run.py --json            for a program, instead of the table
    python tests/bench/run.py --keep /tmp/done  what is in that file is not measured again: to go on later

Figures depend on the machine and on what else it does: its load is printed with them. It fails where an
aim was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from tests.bench.figures import Figure, facts, figure_of, table

Bench: TypeAlias = Callable[[Path], Iterator[Figure]]
"""Measures, with the nodes' homes in a folder that is empty and goes away."""

_TABLE = re.compile(r"^    .*\n\n(\|.*\n)+", re.MULTILINE)
"""The machine, and what was found on it."""


def report(benches: Mapping[str, Bench], description: str, page: Path | None = None) -> None:
    """Run the benches that the command line names, or all of `benches`, and print what they found.

    `page`: a Markdown file whose table is replaced by what all of them found.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("benches", nargs="*", metavar="|".join(benches))
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")
    parser.add_argument("--keep", type=Path, help="keep each bench in this file, and skip those in it")
    arguments = parser.parse_args()
    chosen = arguments.benches or list(benches)
    if unknown := sorted(set(chosen) - set(benches)):
        parser.error(f"there is no bench called {unknown[0]}")
    load_before = _load()
    kept = _read(arguments.keep) if arguments.keep else {}
    for name in chosen:
        if name not in kept:
            kept[name] = _measure(name, benches[name])
            if arguments.keep:
                arguments.keep.write_text(json.dumps({each: facts(kept[each]) for each in kept}))
    figures = [figure for name in chosen for figure in kept[name]]
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    if arguments.json:
        loads = {"load_before": load_before, "load_after": _load()}
        print(json.dumps({"machine": machine, **loads, "figures": facts(figures)}, indent=2))
    else:
        print(f"{machine}, load {load_before}\n\n{table(figures)}\n\nload {_load()} at the end")
    if page is not None and chosen == list(benches):
        found = f"    {machine}, load {load_before}\n\n{table(figures)}\n"
        text = page.read_text(encoding="utf-8")
        page.write_text(_TABLE.sub(lambda _: found, text, count=1), encoding="utf-8")
    if any(figure.misses_aim for figure in figures):
        sys.exit(1)


def _measure(name: str, bench: Bench) -> list[Figure]:
    print(f"measuring: {name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return list(bench(Path(folder)))


def _read(path: Path) -> dict[str, list[Figure]]:
    """What was kept there."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    return {name: [figure_of(fact) for fact in found] for name, found in kept.items()}


def _load() -> float | None:
    """How many tasks wanted to compute in the last minute; Windows does not say."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
