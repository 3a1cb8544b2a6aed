"""What a transfer does to the answers of a node that seeds or fetches meanwhile: gaps between two tokens.

The engine is a real one. Answers come turn about without and with a transfer. Seeder and fetcher share the
cores of this machine with the engine, where a swarm has a machine for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from node.models.demo_model import DEMO_MODEL_NAME
from tests.bench.figures import Figure, percentile
from tests.bench.model_swarm import (
    MODEL,
    REAL_NODE,
    ModelSwarm,
    command,
    drop_partial,
    model_swarm,
    wait_until,
)
from tests.bench.streams import ask
from tests.real.swarm_processes import NodeProcess

ROUNDS = 3
TOKENS = 200
ANSWER_TIMEOUT = 60.0
_HAS_DEMO = ("--model", "demo")


def measure(folder: Path) -> Iterator[Figure]:
    """First the node that seeds answers, then the one that fetches."""
    for side, seeder, fetcher in (("seeding", _HAS_DEMO, ()), ("fetching", (), _HAS_DEMO)):
        place = folder / side
        place.mkdir()
        with model_swarm(place, seeders=[seeder], fetchers=[fetcher], program=REAL_NODE) as swarm:
            answering = (swarm.seeders if seeder else swarm.fetchers)[0]
            yield from _measure(swarm, answering, f"answer on the {side} node")


def _measure(swarm: ModelSwarm, answering: NodeProcess, what: str) -> Iterator[Figure]:
    _answer(answering, 0)
    quiet: list[float] = []
    beside: list[float] = []
    rates = []
    for number in range(1, ROUNDS + 1):
        quiet += _answer(answering, number)
        gaps, rate = _answer_beside_transfer(swarm, answering, number)
        beside += gaps
        rates.append(rate)
    before, meanwhile = (percentile(gaps, 95) * 1000 for gaps in (quiet, beside))
    yield Figure(f"{what}: gap between tokens, quiet, p95 of {len(quiet)}", before, "ms")
    yield Figure(f"{what}: gap between tokens, with a transfer, p95 of {len(beside)}", meanwhile, "ms")
    yield Figure(f"{what}: with a transfer / quiet", meanwhile / before, "x", 1.5)
    yield Figure(f"{what}: rate of the transfer meanwhile", median(rates), "MB/s")
    yield Figure(f"{what}: tokens a second, with a transfer / quiet", sum(quiet) / sum(beside), "x")


def _answer_beside_transfer(
    swarm: ModelSwarm, answering: NodeProcess, number: int
) -> tuple[Sequence[float], float]:
    """The gaps, and the rate in MB/s."""
    (fetcher,) = swarm.fetchers
    job = command(fetcher, "models.pull", reference=MODEL, name="")["id"]
    wait_until(fetcher, lambda: _job(fetcher, job)["done_bytes"] > 0)
    given = swarm.given_bytes()
    gaps = _answer(answering, number)
    given = swarm.given_bytes() - given
    assert _job(fetcher, job)["state"] == "running", "the transfer was over before the answer"
    command(fetcher, "job.cancel", job=job)
    wait_until(fetcher, lambda: _job(fetcher, job)["state"] == "cancelled")
    # What came is kept for another time, and every round is to begin with the same.
    drop_partial(fetcher)
    return gaps, given / 1e6 / sum(gaps)


def _answer(node: NodeProcess, number: int) -> list[float]:
    """Seconds between two tokens of one answer."""
    request = {
        "model": DEMO_MODEL_NAME,
        "prompt": f"{number} is the number of this story. Once upon a time",
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    (answer,) = ask(node.api, [request], within=ANSWER_TIMEOUT)
    return answer.gaps


def _job(node: NodeProcess, job: str) -> Any:
    return command(node, "job", job=job)
