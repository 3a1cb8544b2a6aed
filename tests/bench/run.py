"""Measures real nodes on this machine and prints one table: `make bench`.

    python tests/bench/run.py               everything, about three minutes
    python tests/bench/run.py deaths idle   only these

Figures depend on the machine and on what else it does: its load is printed with them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import command_times, deaths, front_delay, idle_node
from tests.bench.figures import Figure, table

BENCHES: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "front": front_delay.measure,
    "idle": idle_node.measure,
    "status": command_times.measure_status,
    "demo": command_times.measure_demo,
    "deaths": deaths.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure real nodes on this machine.")
    parser.add_argument("benches", nargs="*", metavar="|".join(BENCHES))
    chosen = parser.parse_args().benches or list(BENCHES)
    if unknown := sorted(set(chosen) - set(BENCHES)):
        parser.error(f"there is no bench called {unknown[0]}")
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {_load()}",
        flush=True,
    )
    figures: list[Figure] = []
    for name in chosen:
        print(f"measuring: {name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            figures += BENCHES[name](Path(folder))
    print(f"\n{table(figures)}\n\n{_load()} at the end")


def _load() -> str:
    """How busy the machine is besides; Windows does not say."""
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


if __name__ == "__main__":
    main()
