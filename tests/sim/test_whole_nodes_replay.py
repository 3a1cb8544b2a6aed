"""One seed tells one story of whole nodes too: each byte on each cable, at the same moment."""

from __future__ import annotations

import hashlib

import pytest
import trio

from p2p.memory_link import LinkQuality, MemoryWire
from p2p.memory_network import MemoryHub
from tests import mock_time
from tests.sim.retelling import told_by_processes
from tests.sim.whole_swarm import whole_swarm

STORY = """
from tests.sim.test_whole_nodes_replay import story
print(story(7))
"""


def story(seed: int) -> str:
    """A digest of all that eight nodes sent each other while they met, answered, and lost one."""
    digest = hashlib.sha256()
    append = MemoryWire._append

    def heard(wire: MemoryWire, data: bytes | None) -> None:
        digest.update(f"{trio.current_time()!r} {wire._source} {wire._target} {data!r}\n".encode())
        append(wire, data)

    async def main() -> None:
        hub = MemoryHub(seed=seed, quality=LinkQuality(latency=0.005, jitter=0.02, loss=0.02))
        async with whole_swarm(hub, 8, seed) as swarm:
            await swarm.until(lambda: swarm.all_see("online"), within=30)
            for node in swarm.nodes:
                await node.ask()
            swarm.kill(swarm.nodes[3])
            await trio.sleep(10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryWire, "_append", heard)
        mock_time.run(main, seed=seed)
    return digest.hexdigest()


def test_the_same_seed_tells_the_same_story_and_another_one_another() -> None:
    told = story(7)
    assert told == story(7)
    assert told != story(8)


def test_the_same_seed_tells_the_same_story_in_every_process() -> None:
    assert len(told_by_processes(STORY)) == 1
