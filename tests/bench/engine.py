"""The engine against llama.cpp's own server: `make bench-engine`, about ten minutes.

How to call it: `report.py`. The first time, that server is built, which takes ten minutes more
(`build_llama_server.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench import engine_restart
from tests.bench.engine_prompts import measure_prompts
from tests.bench.engine_sides import BenchModel, gemma, smollm2
from tests.bench.engine_speed import measure_speed, measure_stock
from tests.bench.engine_steps import measure_steps
from tests.bench.figures import Figure
from tests.bench.report import Bench, report

PAGE = Path(__file__).parent.parent.parent / "docs" / "engine.md"

_MODELS = {"smollm2": smollm2, "gemma": gemma}
_PARTS = {"speed": measure_speed, "stock": measure_stock, "prompts": measure_prompts, "steps": measure_steps}


def _bench(
    measure: Callable[[BenchModel, Path], Iterator[Figure]],
    find_model: Callable[[Path], BenchModel],
    folder: Path,
) -> Iterator[Figure]:
    return measure(find_model(folder), folder)


BENCHES: dict[str, Bench] = {
    f"{part}-{model}": partial(_bench, measure, find_model)
    for model, find_model in _MODELS.items()
    for part, measure in _PARTS.items()
} | {"restart": engine_restart.measure}

if __name__ == "__main__":
    report(BENCHES, "Compare the engine with other servers of the same llama.cpp.", PAGE)
