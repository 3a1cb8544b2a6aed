"""How soon real nodes know of each other's deaths, sleeps and departures: `make bench-swarm`.

About ten minutes. The aims are for a quiet machine of two cores. How to call it: `report.py`.
"""

from __future__ import annotations

from tests.bench import three_nodes, twenty_nodes
from tests.bench.report import report

BENCHES = {
    "three": three_nodes.measure,
    "twenty": twenty_nodes.measure,
}

if __name__ == "__main__":
    report(BENCHES, "Measure how real nodes know who of them is alive.")
