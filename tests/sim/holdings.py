"""Counts everything in every container that the cores of a node reach, so it knows of none by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from tests.sim.node import Node

CONTAINERS = (dict, list, set, frozenset, tuple, deque)


def held(node: Node) -> int:
    """How many things are in the containers that the cores of `node` reach."""
    cores = (node.detector, node.replica, node.spread, node.neighbours, node.book, node.finder)
    seen: set[int] = set()
    waiting: list[Any] = list(cores)
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and is_ours(one):
            seen.add(id(one))
            parts = list(parts_of(one))
            waiting += parts
            total += len(parts) if isinstance(one, CONTAINERS) else 0
    return total


def is_ours(one: object) -> bool:
    """A container, or an object of a core: not the world, and no key or proof that all share."""
    return isinstance(one, CONTAINERS) or type(one).__module__.startswith(("ledger.", "p2p."))


def parts_of(one: Any) -> Iterable[Any]:
    if isinstance(one, dict):
        return one.values()
    if isinstance(one, CONTAINERS):
        return one
    slots = [name for base in type(one).__mro__ for name in getattr(base, "__slots__", ())]
    return [getattr(one, name) for name in (*slots, *getattr(one, "__dict__", {})) if hasattr(one, name)]
