"""How soon a node that is gone is not shown as online any more, as another node sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.figures import Figure, over_rounds
from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online

RUNS = 5


def measure(folder: Path) -> Iterator[Figure]:
    """Two nodes, of which one is killed, and comes back, and is frozen, and goes on; five times each."""
    with NodeProcesses(folder) as nodes:
        witness = nodes.run("start", "witness")
        token = witness.token()
        killed = []
        frozen = []
        for _ in range(RUNS):
            victim = nodes.run("join", "victim", token=token)
            frozen.append(_seconds_until_seen(witness, victim.freeze))
            victim.thaw()
            killed.append(_seconds_until_seen(witness, victim.process.kill))
            victim.wait()
    yield from over_rounds("a killed node is not online", killed, "s", 1)
    yield from over_rounds("a frozen node is not online", frozen, "s", 5)


def _seconds_until_seen(witness: NodeProcess, strike: Callable[[], None]) -> float:
    witness.wait_until(lambda rows: is_online(rows, "victim"))
    strike()
    return witness.wait_until(lambda rows: not is_online(rows, "victim"))
