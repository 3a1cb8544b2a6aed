"""The seeds that tests run with: a few fixed ones, or the one that a failed test has printed."""

from __future__ import annotations

import os


def seeds(count: int) -> list[int]:
    """`SEED=<number>` replays that one alone."""
    return [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(count))
