"""What one person at one machine notices: `make bench`, about three minutes. How to call it: `report.py`."""

from __future__ import annotations

from tests.bench import command_times, deaths, front_delay, idle_node
from tests.bench.report import report

BENCHES = {
    "front": front_delay.measure,
    "idle": idle_node.measure,
    "status": command_times.measure_status,
    "demo": command_times.measure_demo,
    "deaths": deaths.measure,
}

if __name__ == "__main__":
    report(BENCHES, "Measure real nodes on this machine.")
