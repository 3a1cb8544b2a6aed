"""What is lost when a seeder or a fetcher is killed half way, and what of a seeder that sends wrong bytes.

Seeders are limited, so that half way is not over before somebody has looked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.bench.model_swarm import (
    MODEL,
    ModelSwarm,
    command,
    fetched_path,
    model_swarm,
    pull,
    wait_until,
    wrong_bytes,
)
from tests.real.swarm_processes import NodeProcess

_LIMITED = ("--upload-rate", "40MB")
_HALF = 0.5


def measure(folder: Path) -> Iterator[Figure]:
    """Two seeders; first the fetcher is killed and comes back, then one of them lies, then one is killed."""
    with model_swarm(folder, seeders=[_LIMITED] * 2, fetchers=[()]) as swarm:
        size_bytes = swarm.file.size_bytes
        yield Figure(
            "fetcher killed at 50 % and started again: sent in all, of the file",
            _kill_fetcher(swarm),
            "x",
            1.05,
        )
        yield from _take_from_liar(swarm)
        received = _kill_seeder(swarm)
        yield Figure(
            "one of two seeders killed at 50 %: fetched in all, of the file", received / size_bytes, "x", 1.05
        )


def _kill_fetcher(swarm: ModelSwarm) -> float:
    """Counted by the seeders: what was on its way to a process that is dead is lost, too."""
    (fetcher,) = swarm.fetchers
    _pull_half(fetcher)
    fetcher.kill()
    revived = swarm.start_again(fetcher)
    # It goes on by itself: a job survives its node.
    wait_until(revived, lambda: _job(revived)["state"] == "done")
    given = swarm.given_bytes()
    swarm.take_back(revived)
    return given / swarm.file.size_bytes


def _take_from_liar(swarm: ModelSwarm) -> Iterator[Figure]:
    _, liar = swarm.seeders
    fetcher = swarm.fetchers[0]
    command(liar, "bench.corrupt")
    received = pull(fetcher).received
    wrong = wrong_bytes(fetched_path(fetcher), swarm.file)
    swarm.take_back(fetcher)
    yield Figure("one of two seeders corrupt: wrong bytes in the file", wrong, "", 0)
    yield Figure(
        "one of two seeders corrupt: fetched of it and thrown away", received.get(liar.name, 0) / 1e6, "MB"
    )


def _kill_seeder(swarm: ModelSwarm) -> int:
    """Bytes that the fetcher counted, of both."""
    _, victim = swarm.seeders
    fetcher = swarm.fetchers[0]
    victim.kill()
    swarm.start_again(victim)
    swarm.wait_for_holders(2)
    _pull_half(fetcher)
    swarm.seeders[1].kill()
    wait_until(fetcher, lambda: _job(fetcher)["state"] == "done")
    received: int = sum(_job(fetcher)["sources"].values())
    swarm.take_back(fetcher)
    return received


def _pull_half(fetcher: NodeProcess) -> None:
    command(fetcher, "models.pull", reference=MODEL, name="")
    wait_until(fetcher, lambda: _job(fetcher)["fraction"] >= _HALF)


def _job(node: NodeProcess) -> dict[str, Any]:
    """Its newest."""
    jobs: list[dict[str, Any]] = command(node, "jobs")["jobs"]
    return jobs[-1]
