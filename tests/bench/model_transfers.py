"""How fast a model comes: from one seeder, from three, and to five at once.

Where a rate is given, seeders are limited to it (`--upload-rate`), so that the machine has its time for
what the swarm does with it, and not for how fast it could go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import trio

from node.store.chunk_reader import read_chunk
from node.store.hashing import FileHasher, ignore_progress
from node.store.partial_disk import PartialDisk, WantedFile
from p2p.blobs.manifest import HASH_SIZE, file_key, hash_chunk
from tests.bench.figures import Figure
from tests.bench.model_swarm import (
    PULL_TIMEOUT,
    ModelSwarm,
    command,
    forget,
    model_swarm,
    pull,
    pull_together,
)
from tests.real.swarm_processes import NodeProcess

ROUNDS = 5
RATE = 20
"""MB/s."""
FETCHERS = 5
_LIMITED = ("--upload-rate", f"{RATE}MB")


@dataclass(frozen=True, slots=True)
class _Round:
    """The same bytes, one way."""

    speed: float
    """MB/s."""
    giver: float
    """Seconds of processor time for a GB."""
    taker: float


def measure_speed(folder: Path) -> Iterator[Figure]:
    """A pull and a bare stream between the same two nodes, turn about. The first round warms up."""
    with model_swarm(folder, seeders=[()], fetchers=[()]) as swarm:
        ways = {"bare stream": _take_bare, "pull": _take_model}
        rounds: dict[str, list[_Round]] = {way: [] for way in ways}
        kept_only = []
        for number in range(ROUNDS + 1):
            for way in ways if number % 2 else reversed(ways):
                rounds[way].append(_measure(swarm, ways[way]))
            kept_only.append(_keep_only(swarm, folder / "kept.gguf"))
    measured = {way: each[1:] for way, each in rounds.items()}
    for way, each in measured.items():
        yield Figure(f"{way}, median of {ROUNDS}", median(one.speed for one in each), "MB/s")
        yield Figure(f"{way}: processor time, who gives", median(one.giver for one in each), "s/GB")
        yield Figure(f"{way}: processor time, who takes", median(one.taker for one in each), "s/GB")
    bare, pulled = measured.values()
    ratio = median(one.speed / other.speed for one, other in zip(pulled, bare, strict=True))
    yield Figure("pull / bare stream", ratio, "x", 0.75, is_least=True)
    keeping = median(kept_only[1:])
    yield Figure("its bytes read, checked and kept without a stream: processor time", keeping, "s/GB")
    streaming = median(each.giver + each.taker for each in bare)
    at_most = streaming / (streaming + keeping)
    yield Figure("pull / bare stream, if it had no other costs on cores that both share", at_most, "x")


def measure_three(folder: Path) -> Iterator[Figure]:
    """A fetcher takes it from one seeder, and then from that one and two more."""
    with model_swarm(folder, seeders=[_LIMITED] * 3, fetchers=[()]) as swarm:
        (fetcher,) = swarm.fetchers
        first, *others = swarm.seeders
        for other in others:
            forget(other)
        swarm.wait_for_holders(1)
        one = pull(fetcher)
        swarm.take_back(fetcher)
        for other in others:
            command(other, "models.add", source=str(swarm.file.path), copy=False)
        swarm.wait_for_holders(3)
        three = pull(fetcher)
        swarm.take_back(fetcher)
        size_bytes = swarm.file.size_bytes
    yield Figure(f"from one seeder of {RATE} MB/s", size_bytes / 1e6 / one.seconds, "MB/s")
    yield Figure(f"from three seeders of {RATE} MB/s each", size_bytes / 1e6 / three.seconds, "MB/s")
    yield Figure("three seeders / one", one.seconds / three.seconds, "x", 2.8, is_least=True)
    least = min(three.received.get(seeder.name, 0) for seeder in (first, *others))
    yield Figure("least that one of the three gave, of the file", least / size_bytes, "x")


def measure_five(folder: Path) -> Iterator[Figure]:
    """Nodes that want it at once give it to each other."""
    with model_swarm(folder, seeders=[_LIMITED], fetchers=[()] * FETCHERS) as swarm:
        alone = pull(swarm.fetchers[0])
        swarm.take_back(swarm.fetchers[0])
        swarm.wait_for_holders(1)
        given_before = swarm.given_bytes()
        together = pull_together(swarm.fetchers)
        given = swarm.given_bytes() - given_before
        for fetcher in swarm.fetchers:
            swarm.take_back(fetcher)
        size_bytes = swarm.file.size_bytes
    longest = max(pulled.seconds for pulled in together)
    yield Figure(f"one node pulls from one seeder of {RATE} MB/s", alone.seconds, "s")
    yield Figure(f"{FETCHERS} nodes pull from it at once, all done", longest, "s")
    yield Figure(f"{FETCHERS} nodes / one", longest / alone.seconds, "x", 2.2)
    yield Figure(f"{FETCHERS} nodes: what the seeder sent, of the file", given / size_bytes, "x", 1.5)


def _measure(swarm: ModelSwarm, take: Callable[[ModelSwarm], float]) -> _Round:
    (giver,), (taker,) = swarm.seeders, swarm.fetchers
    before = _spent(giver), _spent(taker)
    seconds = take(swarm)
    after = _spent(giver), _spent(taker)
    if take is _take_model:
        swarm.take_back(taker)
    spent = [(late - early) / swarm.file.size_bytes * 1e9 for early, late in zip(before, after, strict=True)]
    return _Round(swarm.file.size_bytes / 1e6 / seconds, *spent)


def _take_bare(swarm: ModelSwarm) -> float:
    (giver,), (taker,) = swarm.seeders, swarm.fetchers
    size_bytes = swarm.file.size_bytes
    seconds: float = command(
        taker, "bench.bare", timeout=PULL_TIMEOUT, peer=giver.peer_id, size_bytes=size_bytes
    )
    return seconds


def _take_model(swarm: ModelSwarm) -> float:
    return pull(swarm.fetchers[0]).seconds


def _keep_only(swarm: ModelSwarm, path: Path) -> float:
    """What both ends of a pull do besides moving bytes: read each chunk and compare its BLAKE3 before it is
    given, compare it again where it came, write it, feed the SHA-256, fsync. Seconds for a GB."""
    hashes = trio.run(FileHasher(path.with_name("hashes")).hash, swarm.file.path)
    wanted = WantedFile(file_key(hashes.sha256), swarm.file.size_bytes, hashes.sha256, hashes.chunks)
    began_at = time.process_time()
    disk = PartialDisk(path, wanted, ignore_progress)
    for chunk in range(wanted.chunk_count):
        data = read_chunk(hashes, chunk)
        assert hash_chunk(data) == hashes.chunks[HASH_SIZE * chunk : HASH_SIZE * (chunk + 1)]
        disk.write(chunk, [data])
    disk.finish(wanted.sha256, ignore_progress)
    seconds = time.process_time() - began_at
    path.unlink()
    return seconds / wanted.size_bytes * 1e9


def _spent(node: NodeProcess) -> float:
    """Seconds that its process has computed so far, without its engine."""
    times = psutil.Process(node.process.pid).cpu_times()
    return times.user + times.system
