"""How long a plan takes in a large swarm, and what moves when any one node is lost. No node runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean, median

from ledger.placement import Host, Plan, plan
from ledger.records import ModelName, PlacementRecord
from p2p.peer import PeerId
from tests.bench.figures import Figure, over_rounds

NODES = 1000
MODELS = 100
RUNS = 5
GIB = 2**30


def measure(_: Path) -> Iterator[Figure]:
    """A thousand nodes of many kinds, and a hundred models with one to eight copies each."""
    rng = Random(6)
    hosts = [_host(number, rng) for number in range(NODES)]
    placements = [
        PlacementRecord(
            ModelName(f"model{number}"), replicas=rng.randint(1, 8), size_bytes=rng.randint(1, 60) * GIB
        )
        for number in range(MODELS)
    ]
    fresh = [_timed(placements, hosts)[0] for _ in range(RUNS)]
    planned = plan(placements, hosts)
    assert not planned.problems
    holding = _holding(hosts, planned)
    settled = [_timed(placements, holding)[0] for _ in range(RUNS)]
    what = f"plan of {NODES} nodes and {MODELS} models, nothing placed yet"
    yield from over_rounds(what, [seconds * 1000 for seconds in fresh], "ms", 100)
    yield Figure(f"the same, all copies in place, longest of {RUNS}", max(settled) * 1000, "ms", 100)
    copies = _copies(planned)
    moved = []
    times = []
    for lost in range(NODES):
        seconds, other = _timed(placements, holding[:lost] + holding[lost + 1 :])
        times.append(seconds)
        moved.append(len(_copies(other) - copies) / len(copies))
    yield Figure("the same, one node lost, median of all nodes", median(times) * 1000, "ms", 100)
    yield Figure(
        f"one node lost: copies that move, of {len(copies)}, mean of all nodes", mean(moved) * 100, "%", 2
    )
    yield Figure(
        f"one node lost: copies that move, of {len(copies)}, worst of all nodes", max(moved) * 100, "%", 2
    )


def _host(number: int, rng: Random) -> Host:
    return Host(
        PeerId(f"peer{number:04}"),
        models_size_max=rng.choice((0, 50, 200, 1000)) * GIB,
        model_size_max=rng.choice((5, 10, 43, 86)) * GIB,
        speed_class=rng.choice((1.0, 1.0, 2.0, 4.0)),
    )


def _timed(placements: Sequence[PlacementRecord], hosts: Sequence[Host]) -> tuple[float, Plan]:
    began_at = time.perf_counter()
    planned = plan(placements, hosts)
    return time.perf_counter() - began_at, planned


def _holding(hosts: Sequence[Host], planned: Plan) -> list[Host]:
    """The hosts once each has what the plan gave it."""
    held: dict[PeerId, dict[ModelName, str]] = {host.peer: {} for host in hosts}
    for model, holders in planned.holders.items():
        for peer in holders:
            held[peer][model] = "ab" * 32
    return [replace(host, held=held[host.peer]) for host in hosts]


def _copies(planned: Plan) -> set[tuple[ModelName, PeerId]]:
    return {(model, peer) for model, holders in planned.holders.items() for peer in holders}
