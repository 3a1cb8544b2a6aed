"""Scenarios: what is done to a settled swarm, and what is measured while it is.

Each takes a size and a seed and returns samples by name. `run.py` runs many seeds of each
at once, in processes; a scenario knows nothing of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from ledger.rumour import Status
from p2p.peer import PeerId
from tests.sim.faults import Faults
from tests.sim.node import Node, Settings
from tests.sim.settled import settled
from tests.sim.stopwatch import Doubts, Stopwatch
from tests.sim.world import World

Samples: TypeAlias = dict[str, list[float]]

LOSS = 0.01
"""Of the figures; the delay is that of `Faults`, 2 to 50 ms."""

PATIENCE = 60.0
"""Seconds in which what is measured must have happened. What has not counts as so many."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: of so many nodes, with that seed."""

    size: int
    seed: int
    settings: Settings = field(default_factory=Settings)
    amount: float = 0.0
    """How much of it: writes, victims, or node-hours."""

    def world(self, *, loss: float = LOSS, run: float = 10.0) -> World:
        return settled(self.size, self.seed, Faults(loss=loss), self.settings, run=run)


def writes(case: Case) -> Samples:
    """Random nodes write, twice a second: until each write is known by all."""
    return write_into(case.world(), int(case.amount))


def write_into(world: World, count: int) -> Samples:
    watch = world.witness = Stopwatch()
    for number in range(count):
        node = world.rng.choice(list(world))
        key = f"model/{number % 8}"
        node.write(key, b"\x81\xa1n\xce" + number.to_bytes(4, "big"))
        watch.wrote(node, key)
        world.run(0.5)
    _wait(world, watch)
    return {"write known by all": _counting_missing(watch.write_known, count)}


def deaths(case: Case) -> Samples:
    """Processes are killed, one after the other; each starts again after 20 s, when all have noticed."""
    return kill_in(case.world(), int(case.amount))


def kill_in(world: World, count: int) -> Samples:
    watch = _one_after_the_other(world, count, world.kill, lambda node: _restart(world, node))
    return {
        "killed, noticed by the connected": _counting_missing(watch.noticed_by_linked, count),
        "killed, noticed by all": _counting_missing(watch.noticed_by_all, count),
    }


def _restart(world: World, node: Node) -> None:
    world.restart(node)


def freezes(case: Case) -> Samples:
    """Processes are stopped (SIGSTOP), and go on after 20 s, when all have noticed.

    Who has just gone on is not waited for: after its own pause it blames nobody for a while.
    """
    return freeze_in(case.world(), int(case.amount))


def freeze_in(world: World, count: int) -> Samples:
    watch = _one_after_the_other(world, count, world.pause, world.resume, excuses_the_struck=True)
    return {"frozen, suspect everywhere": _counting_missing(watch.noticed_by_all, count)}


def _one_after_the_other(
    world: World,
    count: int,
    befall: Callable[[Node], None],
    undo: Callable[[Node], None],
    *,
    excuses_the_struck: bool = False,
) -> Stopwatch:
    """`befall` a random node every now and then; at most one in twenty at a time, or one.

    Nobody twice before all know again that it is well: there would be nothing to notice.
    """
    watch = world.witness = Stopwatch()
    lasts = 20.0
    pause = max(1.0, lasts * 1.5 * 20 / len(world.members))
    spared_until: dict[PeerId, float] = {}
    for _ in range(count):
        struck = {peer for peer, until in spared_until.items() if until > world.now}
        victim = world.rng.choice([node for node in world if node.peer not in struck])
        spared_until[victim.peer] = world.now + 2 * lasts
        watch.befalls(victim, struck if excuses_the_struck else frozenset())
        befall(victim)
        world.timeline.at(world.now + lasts, lambda node, _: undo(node), victim)
        world.run(pause)
    _wait(world, watch)
    return watch


def idle(case: Case) -> Samples:
    """Nothing happens: bytes a second that each node writes to its streams."""
    return idle_in(case.world(run=30.0))


def idle_in(world: World, duration: float = 60.0) -> Samples:
    before = {node.peer: node.sent for node in world}
    world.run(duration)
    rates = [(node.sent - before[node.peer]) / duration for node in world]
    links = [float(len(node.pipes)) for node in world]
    return {"bytes a second, idle": rates, "links": links}


def mistakes(case: Case) -> Samples:
    """Hours of nothing but loss: how often somebody well is called suspect, or offline."""
    settings = Settings(case.settings.neighbours, case.settings.liveness, has_ledger=False)
    world = settled(case.size, case.seed, Faults(loss=0.05), settings)
    world.story.clear()
    world.run(case.amount * 3600 / case.size)
    return {
        "node-hours": [case.amount],
        "false offline": [float(len(world.said(Status.OFFLINE)))],
        "false suspect": [
            float(len({(seen.peer, round(seen.at / 10)) for seen in world.said(Status.SUSPECT)}))
        ],
    }


def newcomer(case: Case) -> Samples:
    """Somebody joins who knows one address: until it holds what all hold and sees all alive."""
    world = case.world()
    friend = world.rng.choice(list(world))
    begun = world.now
    node = world.join(friend)
    while not _knows_all(world, node) and world.now < begun + PATIENCE:
        world.run(0.05)
    knows_after, received = world.now - begun, node.received
    while not all(each.status(node.peer) is Status.ALIVE for each in world if each is not node):
        if world.now > begun + PATIENCE:
            break
        world.run(0.05)
    return {
        "newcomer knows all": [knows_after],
        "newcomer known by all": [world.now - begun],
        "newcomer received": [float(received)],
    }


def _knows_all(world: World, node: Node) -> bool:
    others = [each for each in world if each is not node]
    is_seen = all(node.status(each.peer) is Status.ALIVE for each in others)
    return is_seen and all(node.holds_record(each.peer) for each in others)


def split(case: Case) -> Samples:
    """Two halves are apart for a minute, and write: until they are one again."""
    return split_in(case.world())


def split_in(world: World) -> Samples:
    doubts = world.witness = Doubts()
    nodes = list(world)
    world.split(world.rng.sample(nodes, len(nodes) // 2), connections_last=20.0)
    world.run(30.0)
    for number, node in enumerate(world.rng.sample(nodes, min(10, len(nodes)))):
        node.write(f"model/{number}", b"\x81\xa1n\x01")
    world.run(30.0)
    world.heal()
    begun = world.now
    while (doubts.pairs or not world.are_ledgers_equal()) and world.now < begun + 2 * PATIENCE:
        world.run(0.5)
    return {"a split heals": [world.now - begun]}


def halving(case: Case) -> Samples:
    """Half of all are killed in one moment."""
    return halve(case.world())


def halve(world: World) -> Samples:
    nodes = list(world)
    dead = {node.peer for node in world.rng.sample(nodes, len(nodes) // 2)}
    for node in nodes:
        if node.peer in dead:
            world.kill(node)
    together = largest_part(world)
    begun = world.now
    while any(node.status(peer) is Status.ALIVE for node in world for peer in dead):
        if world.now > begun + PATIENCE:
            break
        world.run(0.5)
    return {
        "reachable after half died": [together],
        "half died, noticed by all": [world.now - begun],
    }


def largest_part(world: World) -> float:
    """Share of the running nodes in the largest part that hangs together by connections."""
    left = {node.peer for node in world}
    count, largest = len(left), 0
    while left:
        edge = [min(left)]
        left.discard(edge[0])
        size = 0
        while edge:
            size += 1
            near = world.nodes[edge.pop()].pipes.keys() & left
            left -= near
            edge += sorted(near)
        largest = max(largest, size)
    return largest / count


def view(case: Case) -> Samples:
    """All of it in one swarm, one after the other: to compare views of different size."""
    world = case.world(run=20.0)
    samples = idle_in(world, 30.0)
    count = int(case.amount)
    samples |= write_into(world, count)
    samples |= kill_in(world, count)
    world.run(30.0)
    samples |= freeze_in(world, count)
    world.run(30.0)
    if case.size <= _SPLIT_SIZE_MAX:
        samples |= split_in(world)
    return samples | halve(world)


_SPLIT_SIZE_MAX = 300
"""To tell half a million pairs that they lost each other, and found each other, takes minutes of computing:
of a thousand `split` does it once, with the view that the program has."""


def _wait(world: World, watch: Stopwatch) -> None:
    until = world.now + PATIENCE
    while watch.is_waiting and world.now < until:
        world.run(0.5)


def _counting_missing(times: Iterable[float], count: int) -> list[float]:
    """What was never noticed counts as longer than anything that was."""
    measured = list(times)
    return measured + [PATIENCE] * (count - len(measured))


SCENARIOS: dict[str, Callable[[Case], Samples]] = {
    "writes": writes,
    "deaths": deaths,
    "freezes": freezes,
    "idle": idle,
    "mistakes": mistakes,
    "newcomer": newcomer,
    "split": split,
    "halving": halving,
    "view": view,
}
