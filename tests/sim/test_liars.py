"""Members that lie: what they say is refused under its name, costs no more than their share; the rest agree.

`-s` shows how much memory honest nodes hold after it.
"""

from __future__ import annotations

import tracemalloc

import pytest

from ledger.entry import Place
from ledger.rumour import Status
from tests.sim.invariants import Watch
from tests.sim.liar import LEDGER_LIES, PROBE_LIES, make_liar
from tests.sim.node import Node
from tests.sim.world import World

LIAR = 5
"""The number of the member that lies: a worker, who may not decide for the swarm."""


def swarm_with_liar(size: int = 8) -> tuple[World, Watch, Node]:
    world = World(size, 1)
    watch = Watch(world)
    world.run(10)
    return world, watch, world[LIAR]


def honest(world: World) -> list[Node]:
    return [node for node in world if node.number != LIAR]


def agree(world: World) -> bool:
    """All honest ones hold the same, but for what the liar said of itself: it may tell each another thing."""
    liar = world[LIAR].peer
    views = set()
    for node in honest(world):
        state = node.replica.state
        views.add(tuple((owner, state.owner_digest(owner)) for owner in state.owners() if owner != liar))
    return len(views) == 1


@pytest.mark.parametrize("lie", sorted(LEDGER_LIES))
def test_a_lie_about_the_ledger_is_refused_under_its_name(lie: str) -> None:
    world, watch, liar = swarm_with_liar()
    lies, reason = LEDGER_LIES[lie]
    make_liar(liar, lies)
    for number, node in enumerate(honest(world)):
        node.write("model/mine", b"\x81\xa1n" + bytes([number]))
    world.run(30)
    assert agree(world)
    for number, node in enumerate(honest(world)):
        said = b"\x81\xa1n" + bytes([number])
        assert {other.holds(Place(node.peer, "model/mine")) for other in honest(world)} == {said}
    if lie in ("forged owner", "altered value", "contradictions"):
        assert world.network.cut_offs.total() > 0, "what nobody says by mistake ends the stream"
    if reason:
        refused = [node.replica.refusals[reason] for node in honest(world)]  # type: ignore[index]
        assert sum(count > 0 for count in refused) > len(refused) / 2, refused
    for node in honest(world):
        watch.check(node)
        # What one owner may make everybody keep, and no more.
        owned = node.replica.state.entries_of(liar.peer)
        assert len(owned) <= node.replica.state.limits.owner_entries_max


@pytest.mark.parametrize("lie", sorted(PROBE_LIES))
def test_rumours_of_a_liar_make_nobody_offline_for_long(lie: str) -> None:
    world, watch, liar = swarm_with_liar()
    make_liar(liar, rumours=PROBE_LIES[lie])
    world.run(60)
    assert all(len(node.detector.beliefs.peers) <= len(world.members) for node in honest(world))
    world.kill(liar)
    world.run(15)
    for node in honest(world):
        watch.check(node)
        assert all(node.status(each.peer) is Status.ALIVE for each in honest(world) if each is not node)


def test_memory_stays_bounded_whatever_liars_say() -> None:
    """A quarter of the swarm lies about everything at once: what the honest hold stops growing."""
    world, watch, _ = swarm_with_liar()
    for number, lie in ((LIAR, "a million keys"), (6, "endless digests")):
        make_liar(world[number], LEDGER_LIES[lie][0], PROBE_LIES["strangers live"])
    world.run(25)  # By then the one with the many keys has filled its share.
    sizes = []
    tracemalloc.start()
    for _ in range(3):
        world.run(5)
        world.story.clear()
        world.proofs.forget()
        sizes.append(tracemalloc.get_traced_memory()[0] / 1024 / 6)
    tracemalloc.stop()
    print(f"KB that each honest node holds more, after 5, 10 and 15 s: {[round(size) for size in sizes]}")
    assert max(sizes) < 512
    for node in honest(world):
        if node.number != 6:
            watch.check(node)
            print(f"debts {node.spread.debts}, ledger {node.replica.state.size / 1024:.0f} KB")
            assert node.replica.state.size <= 2 * node.replica.state.limits.owner_size_max
