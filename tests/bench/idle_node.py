"""What a node costs that does nothing: memory and processor time of all its processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench.cost import processor_time, resident_bytes
from tests.bench.figures import Figure
from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online

SETTLE = 5.0
"""Seconds after it came up, or met its peers, until a node has nothing left to do."""
WATCH = 20.0
"""Seconds. Liveness and the ledger have rounds of a second or less, so this sees many of each."""


def measure(folder: Path) -> Iterator[Figure]:
    """A node alone, then the same node with two peers; none has a model."""
    with NodeProcesses(folder) as nodes:
        idle = nodes.run("start", "idle")
        yield from _watch(idle, "alone")
        token = idle.token()
        for name in ("one", "two"):
            nodes.run("join", name, token=token)
        idle.wait_until(lambda rows: is_online(rows, "one", "two"))
        yield from _watch(idle, "with two peers")


def _watch(node: NodeProcess, situation: str) -> Iterator[Figure]:
    node.live(SETTLE)
    before = processor_time(node)
    node.live(WATCH)
    share = (processor_time(node) - before) / WATCH
    yield Figure(f"idle node {situation}, resident", resident_bytes(node) / 2**20, "MB", 150)
    yield Figure(f"idle node {situation}, of one core", share * 100, "%", 1)
