"""Looking at many nodes at once, to see when each of them sees something.

    seen = look(
        [Look(node, {"gone": lambda rows: "victim" not in rows}) for node in others],
        began_at=time.monotonic(),
    )
    latest(seen, "gone")        # seconds until the last of them saw it

Each node is looked at from a thread and over a connection of its own, so one that
hangs delays nobody's time but its own. Looking costs the nodes something, too: the
more of them, the longer each is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import httpx

from tests.real.swarm_processes import NodeProcess, Rows

Condition: TypeAlias = Callable[[Rows], bool]
Seen: TypeAlias = Mapping[str, float]
"""Seconds until a node saw each condition hold; infinite where it did not."""

LOOK_INTERVAL_MIN = 0.02
"""Seconds between two looks at one node. A fiftieth of the shortest aim."""
LOOKS_PER_SECOND_MAX = 100
"""At all nodes together. One costs 1.4 ms of one core, there and here, so this is a fourteenth of two cores:
time that the swarm does not have to be quick in."""
WITHIN = 30.0
"""Seconds after which what has not come is not waited for any more: six times the longest aim."""


@dataclass(frozen=True, slots=True)
class Look:
    """What to look for in the view of `node`, each by a name."""

    node: NodeProcess
    conditions: Mapping[str, Condition]
    within: float = WITHIN


def look(looks: Sequence[Look], *, began_at: float, strike: Callable[[], object] | None = None) -> list[Seen]:
    """When each node saw each condition hold first, counted from `began_at` (`time.monotonic`).

    `strike` runs beside it, as it may take longer than what it brings about.
    """
    interval = max(LOOK_INTERVAL_MIN, len(looks) / LOOKS_PER_SECOND_MAX)
    with ThreadPoolExecutor(len(looks) + 1) as pool:
        struck = pool.submit(strike) if strike is not None else None
        seen = [pool.submit(_look, one, began_at, interval) for one in looks]
        if struck is not None:
            struck.result()
        return [one.result() for one in seen]


def latest(seen: Iterable[Seen], condition: str) -> float:
    """Seconds until the last of those who looked for it saw `condition` hold."""
    return max(one[condition] for one in seen if condition in one)


def _look(what: Look, began_at: float, interval: float) -> Seen:
    seen = dict.fromkeys(what.conditions, inf)
    while inf in seen.values():
        try:
            rows = what.node.rows()
        except httpx.TransportError:
            rows = None  # A node that slept has closed the connections that it found idle; the next is new.
        elapsed = time.monotonic() - began_at
        if rows is not None:
            for name, holds in what.conditions.items():
                if seen[name] == inf and holds(rows):
                    seen[name] = elapsed
        if elapsed > what.within:
            break
        what.node.live(interval)
    return seen
