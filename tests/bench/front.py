"""What a front costs, in time and in processor time: `make bench-front`, four minutes.

How to call it: `report.py`.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench import wire_speed
from tests.bench.report import report

PAGE = Path(__file__).parent.parent.parent / "docs" / "front.md"

BENCHES = {
    "delay": wire_speed.measure_delay,
    "throughput": wire_speed.measure_throughput,
    "ceiling": wire_speed.measure_ceiling,
    "real": wire_speed.measure_real,
}

if __name__ == "__main__":
    report(BENCHES, "Measure a front between clients and peers.", PAGE)
