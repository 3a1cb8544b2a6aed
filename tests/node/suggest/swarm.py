"""The parts of a node that an adviser looks at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from node.parts import Parts
from node.suggest.adviser import Adviser
from node.worker import Worker


def worker_with(*, budget: int, used: int) -> Worker:
    """A worker whose models may take `budget` bytes, and take `used`."""
    monitor = {"budget_bytes": budget, "used_bytes": used}
    return cast("Worker", SimpleNamespace(monitor=lambda: monitor))


def parts_with(adviser: Adviser) -> Parts:
    return cast("Parts", SimpleNamespace(adviser=adviser))
