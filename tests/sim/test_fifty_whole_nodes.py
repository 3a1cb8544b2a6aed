"""Fifty whole nodes in one process: more than any of them keeps connections to. And sixteen that part.

A failing run prints its seed; `SEED=<number>` replays it. `PARTING=50`, as `make sim` has it, parts all
fifty, which takes as long again.
"""

from __future__ import annotations

import os

import pytest
import trio

from p2p.memory_link import LinkQuality
from p2p.memory_network import MemoryHub
from p2p.neighbours import NeighboursConfig
from tests import mock_time
from tests.sim.seeds import seeds
from tests.sim.whole_swarm import WholeNode, WholeSwarm, whole_swarm

SIZE = 50
PARTING = int(os.environ.get("PARTING", "16"))
CABLES = LinkQuality(latency=0.002, jitter=0.048, loss=0.01)

pytestmark = pytest.mark.timeout(300)
"""Seconds, for what takes 50 of computing: fifty that meet at once all connect to each other first. A machine
that does something else besides takes longer."""


@pytest.mark.parametrize("seed", seeds(1))
def test_fifty_nodes_see_each_other_write_die_and_answer_throughout(seed: int) -> None:
    async def main() -> None:
        async with whole_swarm(MemoryHub(seed=seed, quality=CABLES), SIZE, seed) as swarm:
            await swarm.until(lambda: swarm.all_see("online"), within=30)
            await nobody_keeps_more_links_than_wanted(swarm)
            await ask_everywhere(swarm)
            await a_write_reaches_all(swarm)
            await a_death_is_seen_by_all(swarm)

    print(f"SEED={seed}")
    mock_time.run(main, seed=seed)


@pytest.mark.parametrize("seed", seeds(1))
def test_two_halves_part_answer_and_become_one_again(seed: int) -> None:
    async def main() -> None:
        async with whole_swarm(MemoryHub(seed=seed, quality=CABLES), PARTING, seed) as swarm:
            await swarm.until(lambda: swarm.all_see("online"), within=30)
            await two_halves_part_and_meet(swarm)

    print(f"SEED={seed}")
    mock_time.run(main, seed=seed)


async def ask_everywhere(swarm: WholeSwarm, *, among: list[WholeNode] | None = None) -> None:
    """A request comes in at each tenth node; somebody who lives answers it."""
    alive = {node.peer for node in among or swarm.nodes}
    for node in (among or swarm.nodes)[::10]:
        with trio.fail_after(10):
            assert await node.ask() in alive


async def nobody_keeps_more_links_than_wanted(swarm: WholeSwarm) -> None:
    config = NeighboursConfig()

    def is_settled() -> bool:
        """One link may have been let go this moment."""
        links = swarm.links()
        return config.min - 1 <= min(links) and max(links) <= config.max

    await swarm.until(is_settled, within=30)
    assert swarm.all_see("online")


async def a_write_reaches_all(swarm: WholeSwarm) -> None:
    writer = swarm.nodes[17]
    writer.ledger.put("note", {"text": "written"})

    def is_known() -> bool:
        return all(node.ledger.get(writer.peer, "note") == {"text": "written"} for node in swarm.nodes)

    assert await swarm.until(is_known, within=5) <= 2.0


async def a_death_is_seen_by_all(swarm: WholeSwarm) -> None:
    victim = swarm.nodes[23]
    swarm.kill(victim)
    took = await swarm.until(lambda: swarm.all_see("suspect", "offline", of=[victim]), within=5)
    assert took <= 1.0
    await ask_everywhere(swarm)
    await swarm.until(lambda: swarm.all_see("offline", of=[victim]), within=15)


async def two_halves_part_and_meet(swarm: WholeSwarm) -> None:
    left, right = swarm.nodes[::2], swarm.nodes[1::2]
    swarm.hub.partition([node.peer for node in left], [node.peer for node in right])
    await swarm.until(
        lambda: (
            all(node.sees(right, "offline") for node in left)
            and all(node.sees(left, "offline") for node in right)
        ),
        within=40,
    )
    await ask_everywhere(swarm, among=left)
    left[0].ledger.put("note", {"text": "left"})
    right[0].ledger.put("note", {"text": "right"})
    swarm.hub.heal()
    await swarm.until(lambda: swarm.all_see("online"), within=60)
    await swarm.until(
        lambda: len({node.ledger.state.root_digest() for node in swarm.nodes}) == 1,
        within=20,
    )
    await ask_everywhere(swarm)
