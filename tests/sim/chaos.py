"""Chaos: a random part of all faults, at random times, to random nodes; all from one seed.

Each run takes a part of the faults only: where everything goes wrong at once, the faults
hide each other. ("Swarm testing", Groce and others, 2012.)
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from tests.sim.node import Node
from tests.sim.world import World

Fault: TypeAlias = Callable[["Chaos"], None]

_LASTS = (1.0, 20.0)
"""Seconds from a fault to its end."""

_KEYS = 4
"""Per node: so few that most writes replace something, and many delete it."""


class Chaos:
    """Befalls `world` until it ends."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = Random(seed)
        names = sorted(FAULTS)
        self.chosen = self.rng.sample(names, self.rng.randint(1, len(names)))
        self.happened: list[str] = []
        """For whoever reads a failed run."""
        faults, rng = world.faults, self.rng
        faults.is_reordering = rng.random() < 0.5
        faults.is_tcp_exact = rng.random() < 0.5
        faults.is_exact_frames = rng.random() < 0.5
        faults.loss = rng.choice((0.0, 0.01, 0.05, 0.2))
        faults.replay = rng.choice((0.0, 0.0, 0.05, 0.3))
        faults.delay_max = rng.choice((0.01, 0.05, 0.05, 0.2))
        for node in world:
            if rng.random() < 0.2:
                node.is_newer = True
                node.put_record()
                node.follow_own_writes()

    def run(self, duration: float) -> None:
        """Let things happen for so many seconds, then put an end to all of them."""
        end = self.world.now + duration
        while self.world.now < end:
            self.world.run(self.rng.expovariate(1.0))
            name = self.rng.choice(self.chosen)
            self.happened.append(f"{self.world.now:.1f} {name}")
            FAULTS[name](self)
        self.end()

    def end(self) -> None:
        """From now on all is well: who is down starts, nothing is lost, everybody can be reached."""
        world = self.world
        world.faults.loss = world.faults.replay = 0.0
        world.faults.delay_max = 0.05
        world.faults.slow.clear()
        world.heal()
        for node in list(world.members):
            if not node.is_running:
                world.restart(node)
            elif node.is_paused:
                world.resume(node)
            elif node.is_deaf:
                world.undeafen(node)

    def someone(self) -> Node | None:
        """A node to which nothing happens at the moment."""
        well = [node for node in self.world if not node.is_paused and not node.is_deaf]
        return self.rng.choice(well) if len(well) > 2 else None

    def later(self, act: Callable[[], None]) -> None:
        self.world.timeline.at(self.world.now + self.rng.uniform(*_LASTS), lambda _, __: act())

    def write(self) -> None:
        if node := self.someone():
            key = f"model/{self.rng.randrange(_KEYS)}"
            value = None if self.rng.random() < 0.4 else _value(self.rng)
            node.write(key, value)

    def write_shared(self) -> None:
        admin = self.world[self.rng.randrange(3)]
        if admin.is_running and not admin.is_paused:
            key = f"alias/{self.rng.randrange(_KEYS)}"
            admin.write_shared(key, None if self.rng.random() < 0.4 else _value(self.rng))

    def pause(self) -> None:
        if node := self.someone():
            self.world.pause(node)
            self.later(lambda: self.world.resume(node) if node.is_running and node.is_paused else None)

    def deafen(self) -> None:
        if node := self.someone():
            self.world.deafen(node)
            self.later(lambda: self.world.undeafen(node) if node.is_running and node.is_deaf else None)

    def slow_down(self) -> None:
        if node := self.someone():
            self.world.faults.slow[node.peer] = self.rng.uniform(0.05, 0.5)
            self.later(lambda: self._speed_up(node))

    def _speed_up(self, node: Node) -> None:
        self.world.faults.slow.pop(node.peer, None)

    def down(self, stop: Callable[[Node], None], *, has_disk: bool) -> None:
        """Some process ends, and is started again."""
        if node := self.someone():
            stop(node)
            self.later(lambda: self._restart(node, has_disk=has_disk))

    def _restart(self, node: Node, *, has_disk: bool) -> None:
        if self.world[node.number] is node:  # Unless the end came first.
            self.world.restart(node, has_disk=has_disk)

    def cut_one_way(self) -> None:
        one, other = self.rng.sample([node.peer for node in self.world], 2)
        self.world.faults.cut.add((one, other))
        self.later(lambda: self.world.faults.cut.discard((one, other)))

    def split(self) -> None:
        nodes = list(self.world)
        self.world.split(self.rng.sample(nodes, self.rng.randint(1, len(nodes) // 2)))
        self.later(self.world.heal)

    def isolate(self) -> None:
        if node := self.someone():
            self.world.split([node])
            self.later(self.world.heal)

    def join(self) -> None:
        if len(self.world.members) < 24:
            self.world.join(*self.rng.sample(list(self.world), 1))


def _value(rng: Random) -> bytes:
    return b"\x81\xa1n\xce" + rng.randrange(2**32).to_bytes(4, "big")


FAULTS: dict[str, Fault] = {
    "write": Chaos.write,
    "write for the swarm": Chaos.write_shared,
    "pause": Chaos.pause,
    "read nothing": Chaos.deafen,
    "slow": Chaos.slow_down,
    "kill": lambda chaos: chaos.down(chaos.world.kill, has_disk=True),
    "kill, disk lost": lambda chaos: chaos.down(chaos.world.kill, has_disk=False),
    "power off": lambda chaos: chaos.down(chaos.world.power_off, has_disk=True),
    "stop": lambda chaos: chaos.down(chaos.world.stop, has_disk=True),
    "one-way cut": Chaos.cut_one_way,
    "split": Chaos.split,
    "isolate one": Chaos.isolate,
    "join": Chaos.join,
}
