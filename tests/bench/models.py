"""What getting models from each other costs, and what befalls it: `make bench-models`, ten minutes.

How to call it: `report.py`.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench import model_kills, model_placement, model_transfers, model_yield
from tests.bench.report import report

PAGE = Path(__file__).parent.parent.parent / "docs" / "models.md"

BENCHES = {
    "speed": model_transfers.measure_speed,
    "three": model_transfers.measure_three,
    "five": model_transfers.measure_five,
    "kills": model_kills.measure,
    "yield": model_yield.measure,
    "placement": model_placement.measure,
}

if __name__ == "__main__":
    report(BENCHES, "Measure how models come from peers.", PAGE)
