"""Chaos: a random part of all faults, at random times, to random nodes; all from one seed.

Each run takes a part of the faults only: where everything goes wrong at once, the faults
hide each other. ("Swarm testing", Groce and others, 2012.) What is not chosen does not
happen: the weather is good until somebody makes it bad, and bad for a while only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeAlias

from tests.sim.node import Node
from tests.sim.people import ADMINS
from tests.sim.world import World

Fault: TypeAlias = Callable[["Chaos"], bool]
"""Whether it befell anybody."""

GOOD_WEATHER = {
    "loss": 0.0,
    "replay": 0.0,
    "delay_max": 0.05,
    "is_reordering": False,
    "is_tcp_exact": False,
}
"""Of the network's `Faults`, those that come and go."""

_LASTS = (1.0, 20.0)
"""Seconds from a fault to its end."""

_DISK_BEHIND = (0.05, 5.0)
"""Seconds of which nothing is on the disk: a transaction on a card that is slow, and what a power cut undoes
of those that were not synced."""

_MEMBERS_MAX = 24
_MEMBERS_MIN = 4
"""As many as a small home has, and so few that each sees every fault often."""

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
        self._hits: Counter[str] = Counter()
        self._clear_up()
        # Not a fault, but slow: every second run proves that the frames can be encoded, and mean the same.
        world.faults.is_exact_frames = self.rng.random() < 0.5

    def run(self, duration: float) -> None:
        """Let things happen for so many seconds, then put an end to all of them."""
        end, deck = self.world.now + duration, list[str]()
        while self.world.now < end:
            self.world.run(self.rng.expovariate(1.0))
            if not deck:  # Each in its turn: by chance alone, some would not happen in a short run.
                deck = self.rng.sample(self.chosen, len(self.chosen))
            name = deck.pop()
            if FAULTS[name](self):
                self.happened.append(f"{self.world.now:.1f} {name}")
                self._hits[name] += 1
        self.end()

    def effect(self, name: str) -> int:
        """How often this fault did something: nodes that it befell, or frames that met it."""
        befallen = self._hits[name]
        return min(befallen, self.world.network.effects[MET_BY[name]]) if name in MET_BY else befallen

    def end(self) -> None:
        """From now on all is well: who is down starts, nothing is lost, everybody can be reached."""
        world = self.world
        self._clear_up()
        world.faults.slow.clear()
        world.heal()
        for node in list(world):
            if node.peer in world.stalled:  # It was about to end.
                world.kill(node)
        for node in list(world.members):
            if not node.is_running and not node.has_left:
                world.restart(node)
            elif node.is_paused:
                world.resume(node)
            elif node.is_deaf:
                world.undeafen(node)

    def someone(self, among: Callable[[Node], bool] = lambda _: True) -> Node | None:
        """A node to which nothing happens at the moment, while there are enough of them."""
        well = [node for node in self.world if not self._is_befallen(node)]
        chosen = [node for node in well if among(node)]
        return self.rng.choice(chosen) if len(well) > 2 and chosen else None

    def _is_befallen(self, node: Node) -> bool:
        return node.is_paused or node.is_deaf or node.has_left or node.peer in self.world.stalled

    def later(self, act: Callable[[], object]) -> None:
        self._after(self.rng.uniform(*_LASTS), act)

    def _after(self, delay: float, act: Callable[[], object]) -> None:
        def at_last(_: None, __: None) -> None:
            act()

        self.world.timeline.at(self.world.now + delay, at_last)

    # What people do.

    def write(self) -> bool:
        node = self.someone()
        if node is not None:
            key = f"model/{self.rng.randrange(_KEYS)}"
            value = None if self.rng.random() < 0.4 else _value(self.rng)
            node.write(key, value)
        return node is not None

    def write_shared(self) -> bool:
        admin = self.someone(lambda node: node.number < ADMINS)
        if admin is not None:
            key = f"alias/{self.rng.randrange(_KEYS)}"
            admin.write_shared(key, None if self.rng.random() < 0.4 else _value(self.rng))
        return admin is not None

    def join(self) -> bool:
        nodes = list(self.world)
        if not nodes or len(self.world.members) >= _MEMBERS_MAX:
            return False
        # The token names the first one, which never leaves; whoever else it is told of may be gone by then.
        self.world.join(self.rng.choice(nodes), self.world[0])
        return True

    def leave(self) -> bool:
        """Not an admin: they keep their place, and everybody who starts is told where the first two are."""
        node = self.someone(lambda node: node.number >= ADMINS)
        are_enough = sum(not each.has_left for each in self.world.members) > _MEMBERS_MIN
        if node is None or not are_enough:
            return False
        self.world.leave(node)
        return True

    def upgrade(self) -> bool:
        """Somebody runs a later version from now on."""
        node = self.someone(lambda node: not node.is_newer)
        if node is None:
            return False
        self.world.stop(node)
        node.is_newer = True
        self.world.restart(node)
        return True

    # What befalls nodes.

    def pause(self) -> bool:
        node = self.someone()
        if node is not None:
            self.world.pause(node)
            self.later(lambda: self.world.resume(node) if node.is_running and node.is_paused else None)
        return node is not None

    def deafen(self) -> bool:
        node = self.someone()
        if node is not None:
            self.world.deafen(node)
            self.later(lambda: self.world.undeafen(node) if node.is_running and node.is_deaf else None)
        return node is not None

    def slow_down(self) -> bool:
        node = self.someone()
        if node is not None:
            self.world.slow_down(node, self.rng.uniform(0.05, 0.5))
            self.later(lambda: self.world.speed_up(node))
        return node is not None

    def down(self, stop: Callable[[Node], None], *, has_disk: bool = True) -> bool:
        """Some process ends, and is started again."""
        node = self.someone()
        if node is not None:
            self._down(node, stop, has_disk=has_disk)
        return node is not None

    def down_behind(self, stop: Callable[[Node], None]) -> bool:
        """Some process ends, and what it took in and wrote in its last seconds is not on its disk."""
        node = self.someone()
        if node is None:
            return False
        self.world.stall_disk(node)
        node.write(f"model/{self.rng.randrange(_KEYS)}", _value(self.rng))
        self._after(self.rng.uniform(*_DISK_BEHIND), lambda: self._down(node, stop))
        return True

    def _down(self, node: Node, stop: Callable[[Node], None], *, has_disk: bool = True) -> None:
        if node.is_running:  # Unless something else was first.
            stop(node)
            self.later(lambda: self._restart(node, has_disk=has_disk))

    def _restart(self, node: Node, *, has_disk: bool) -> None:
        if self.world[node.number] is node:  # Unless the end came first.
            self.world.restart(node, has_disk=has_disk)

    # What befalls the network.

    def lose(self, *, is_tcp_exact: bool) -> bool:
        return self._weather(loss=self.rng.choice((0.01, 0.05, 0.2)), is_tcp_exact=is_tcp_exact)

    def replay(self) -> bool:
        return self._weather(replay=self.rng.choice((0.05, 0.3)))

    def reorder(self) -> bool:
        return self._weather(is_reordering=True, delay_max=0.2)

    def delay(self) -> bool:
        return self._weather(delay_max=self.rng.choice((0.01, 0.2, 0.5)))

    def _weather(self, **bad: float | bool) -> bool:
        """Have this for a while. Of two that overlap, the first to end ends both."""
        for name, value in bad.items():
            setattr(self.world.faults, name, value)
        self.later(lambda: self._clear_up(bad))
        return True

    def _clear_up(self, what: Iterable[str] = tuple(GOOD_WEATHER)) -> None:
        for name in what:
            setattr(self.world.faults, name, GOOD_WEATHER[name])

    def cut_one_way(self) -> bool:
        nodes = list(self.world)
        if len(nodes) < 2:
            return False
        one, other = self.rng.sample(nodes, 2)
        self.world.cut(one, other)
        self.later(lambda: self.world.uncut(one, other))
        return True

    def split(self) -> bool:
        nodes = list(self.world)
        if len(nodes) < 2:
            return False
        self.world.split(self.rng.sample(nodes, self.rng.randint(1, len(nodes) // 2)))
        self.later(self.world.heal)
        return True

    def isolate(self) -> bool:
        node = self.someone()
        if node is not None:
            self.world.split([node])
            self.later(self.world.heal)
        return node is not None


def _value(rng: Random) -> bytes:
    return b"\x81\xa1n\xce" + rng.randrange(2**32).to_bytes(4, "big")


FAULTS: dict[str, Fault] = {
    "write": Chaos.write,
    "write for the swarm": Chaos.write_shared,
    "join": Chaos.join,
    "leave": Chaos.leave,
    "later version": Chaos.upgrade,
    "pause": Chaos.pause,
    "read nothing": Chaos.deafen,
    "slow": Chaos.slow_down,
    "kill": lambda chaos: chaos.down(chaos.world.kill),
    "kill, disk lost": lambda chaos: chaos.down(chaos.world.kill, has_disk=False),
    "kill, disk behind": lambda chaos: chaos.down_behind(chaos.world.kill),
    "power off": lambda chaos: chaos.down(chaos.world.power_off),
    "power off, disk behind": lambda chaos: chaos.down_behind(chaos.world.power_off),
    "stop": lambda chaos: chaos.down(chaos.world.stop),
    "loss": lambda chaos: chaos.lose(is_tcp_exact=False),
    "loss, sent again": lambda chaos: chaos.lose(is_tcp_exact=True),
    "replay": Chaos.replay,
    "delay": Chaos.delay,
    "reordering": Chaos.reorder,
    "one-way cut": Chaos.cut_one_way,
    "split": Chaos.split,
    "isolate one": Chaos.isolate,
}

MET_BY = {
    "later version": "from a later version",
    "slow": "slowed",
    "loss": "lost",
    "loss, sent again": "sent again",
    "replay": "replayed",
    "reordering": "overtaken",
    "one-way cut": "cut off",
    "split": "cut off",
    "isolate one": "cut off",
}
"""Faults that do nothing by themselves, and what the network counts that they do to frames."""
