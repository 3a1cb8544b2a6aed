"""Fixtures of real nodes: a swarm that tests share, and nodes that one test may destroy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.swarm_processes import NodeProcess, NodeProcesses, serves


@dataclass(frozen=True)
class LivingSwarm:
    """Two nodes that serve the demo model, and a front without a worker. Leave them as you found them."""

    nodes: NodeProcesses
    """Where a test starts more nodes, with names of its own."""
    token: str
    alpha: NodeProcess
    beta: NodeProcess
    front: NodeProcess


@pytest.fixture(scope="session")
def living_swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingSwarm]:
    with NodeProcesses(tmp_path_factory.mktemp("living-swarm")) as nodes:
        alpha = nodes.run("start", "alpha", "--model", "demo")
        token = alpha.token()
        beta = nodes.run("join", "beta", "--model", "demo", token=token)
        front = nodes.run("front", "front", token=token)
        front.wait_until(lambda rows: serves(rows, "alpha", "beta"))
        yield LivingSwarm(nodes, token, alpha, beta, front)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[NodeProcesses]:
    with NodeProcesses(tmp_path) as processes:
        yield processes
