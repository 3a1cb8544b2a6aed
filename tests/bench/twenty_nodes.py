"""Twenty nodes on this machine: how soon all see all, what that costs, and how soon all know of a death.

They start as machines are switched on by one person: one after the other, as many at a time
as there are cores, since starting Python twenty times at once would measure Python. Then the
power fails, and all come back at once, which does; both are counted from the moment
the last one is ready.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from tests.bench.cost import loopback_bytes, own_bytes, processor_time, resident_bytes
from tests.bench.figures import Figure, over_rounds
from tests.bench.looking import Condition, Look, latest, look
from tests.real.swarm_processes import NodeProcess, NodeProcesses, is_online

COUNT = 20
DEATHS = 5
SETTLE = 20.0
"""Seconds until nobody has anything left to tell: rounds of the ledger and of liveness are shorter."""
WATCH = 20.0
"""Seconds over which their cost is taken."""
VERDICTS = {"suspect": "does not answer", "offline": "is offline"}
"""By state, what a node logs that has come to think so of another (`node/news.py`)."""


def measure(folder: Path) -> Iterator[Figure]:
    """Start, rest, deaths, and a power cut."""
    with NodeProcesses(folder) as nodes:
        swarm = _start_in_turn(nodes)
        yield Figure(f"{COUNT} nodes, started in turn: all see all after the last", _meet(swarm), "s", 10)
        yield from _rest(swarm)
        yield from _die(nodes, swarm)
        for node in swarm:
            node.kill()
        swarm = _start_at_once(nodes)
        yield Figure(
            f"{COUNT} nodes, all back at once after a power cut: all see all after the last",
            _meet(swarm),
            "s",
            10,
        )
        for node in swarm:
            node.kill()  # Twenty goodbyes, one after the other, take longer than all of this.


def _start_in_turn(nodes: NodeProcesses) -> list[NodeProcess]:
    founder = nodes.run("start", _name(0))
    token = founder.token()
    swarm = [founder]
    at_a_time = os.cpu_count() or 1
    while len(swarm) < COUNT:
        numbers = range(len(swarm), min(len(swarm) + at_a_time, COUNT))
        starting = [nodes.launch("join", _name(number), token=token) for number in numbers]
        swarm += [node.wait_until_ready() for node in starting]
    return swarm


def _start_at_once(nodes: NodeProcesses) -> list[NodeProcess]:
    starting = [nodes.launch("start", _name(number)) for number in range(COUNT)]
    return [node.wait_until_ready() for node in starting]


def _meet(swarm: Sequence[NodeProcess]) -> float:
    """Seconds from the moment that the last one was ready until each sees all online."""
    names = [node.name for node in swarm]
    looks = [Look(node, {"all": lambda rows: is_online(rows, *names)}) for node in swarm]
    return latest(look(looks, began_at=max(node.ready_at for node in swarm)), "all")


def _rest(swarm: Sequence[NodeProcess]) -> Iterator[Figure]:
    log_lengths = [len(node.log) for node in swarm]
    swarm[0].live(SETTLE)
    said_before = loopback_bytes()
    computed_before = [processor_time(node) for node in swarm]
    began_at = time.monotonic()
    swarm[0].live(WATCH)
    elapsed = time.monotonic() - began_at
    said = loopback_bytes()
    shares = [
        (processor_time(node) - before) / elapsed * 100
        for node, before in zip(swarm, computed_before, strict=True)
    ]
    what = f"one of {COUNT} idle nodes"
    yield from _mean_and_max(f"{what}, of one core", shares, "%")
    yield from _mean_and_max(f"{what}, resident", [resident_bytes(node) / 2**20 for node in swarm], "MB")
    yield from _mean_and_max(f"{what}, its own memory", [own_bytes(node) / 2**20 for node in swarm], "MB")
    if said is not None and said_before is not None:
        per_node = (said - said_before) / elapsed / COUNT / 1000
        yield Figure(f"{what}, all that this machine sent on loopback, headers and all", per_node, "KB/s")
    news = [line for node, length in zip(swarm, log_lengths, strict=True) for line in node.log[length:]]
    for state, words in VERDICTS.items():
        count = sum(words in line for line in news)
        yield Figure(f"{COUNT} idle nodes, {SETTLE + WATCH:g} s: called {state} by one", count, "times")


def _mean_and_max(what: str, samples: Sequence[float], unit: str) -> Iterator[Figure]:
    yield Figure(f"{what}, mean", mean(samples), unit)
    yield Figure(f"{what}, most", max(samples), unit)


def _die(nodes: NodeProcesses, swarm: list[NodeProcess]) -> Iterator[Figure]:
    """Kill one after the other; each comes back before the next goes."""
    not_chosen, offline, back = [], [], []
    for number in range(1, DEATHS + 1):
        name, victim = _name(number), swarm.pop(1)
        looks = [Look(node, _deaths_signs(name)) for node in swarm]
        seen = look(looks, began_at=time.monotonic(), strike=victim.kill)
        not_chosen.append(latest(seen, "not chosen"))
        offline.append(latest(seen, "offline"))
        swarm.append(nodes.run("start", name))
        back.append(_meet(swarm))
    yield from over_rounds(f"one of {COUNT} killed: not chosen any more", not_chosen, "s", 1)
    yield from over_rounds(f"one of {COUNT} killed: offline in every view", offline, "s", 5)
    yield from over_rounds(f"one of {COUNT} back: all see all after it is ready", back, "s", None)


def _deaths_signs(name: str) -> dict[str, Condition]:
    return {
        "not chosen": lambda rows: not is_online(rows, name),
        "offline": lambda rows: name in rows and rows[name]["state"] == "offline",
    }


def _name(number: int) -> str:
    return f"n{number:02}"
