"""A bench script's main program: measures what it was asked for, prints one table.

    python tests/bench/run.py                   everything it can
    python tests/bench/run.py deaths idle       only these
    python tests/bench/run.py --json            for a program, instead of the table

Figures depend on the machine and on what else it does: its load is printed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from tests.bench.figures import Figure, facts, table

Bench: TypeAlias = Callable[[Path], Iterator[Figure]]
"""Measures, with the nodes' homes in a folder that is empty and goes away."""


def report(benches: Mapping[str, Bench], description: str) -> None:
    """Run the benches that the command line names, or all of `benches`, and print what they found."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("benches", nargs="*", metavar="|".join(benches))
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")
    arguments = parser.parse_args()
    chosen = arguments.benches or list(benches)
    if unknown := sorted(set(chosen) - set(benches)):
        parser.error(f"there is no bench called {unknown[0]}")
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    load_before = _load()
    figures: list[Figure] = []
    for name in chosen:
        print(f"measuring: {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            figures += benches[name](Path(folder))
    if arguments.json:
        loads = {"load_before": load_before, "load_after": _load()}
        print(json.dumps({"machine": machine, **loads, "figures": facts(figures)}, indent=2))
    else:
        print(f"{machine}, load {load_before}\n\n{table(figures)}\n\nload {_load()} at the end")


def _load() -> float | None:
    """How many tasks wanted to compute in the last minute; Windows does not say."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
