"""What the way through a front costs: time to the first token, tokens a second, processor time for each.

A front and peers, each a process of its own on loopback, with real sockets and real HTTP. Their engines are
stubs (`stub_child.py`), so that the machine has its time for everything else. Both ways are taken in turn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from node.models.demo_model import DEMO_MODEL_NAME
from tests.bench.figures import Figure, percentile
from tests.bench.front_delay import FirstTokens
from tests.bench.streams import ask_each
from tests.real.swarm_processes import THE_PROGRAM, NodeProcess, NodeProcesses, Program, serves

REQUESTS = 500
"""Each way: the 99th percentile then stands on five samples."""
WARM_UP = 20
"""Each way: connections, streams and caches are there after the first few."""
PEERS = 3
SLOTS = 4
"""Of each peer, all of which are used."""
RATE = 50
"""Tokens a second of one stream, as of a model of some gigabytes on a good machine. All streams together take
two slow cores a third of their time."""
TOKENS = 150
"""Of an answer at that rate: three seconds."""
ROUNDS = 5
FLAT_OUT_TOKENS = 2000
"""Of an answer that comes as fast as it is read."""
REAL_TOKENS = 64
ANSWER_TIMEOUT = 120.0

_STUB_NODE: Program = (sys.executable, str(Path(__file__).with_name("stub_node.py")))


def measure_delay(folder: Path) -> Iterator[Figure]:
    """The time to the first token, asked of a peer and through a front."""
    with _swarm(folder, _STUB_NODE, peers=1) as swarm:
        ways = {"direct": FirstTokens(swarm.peers[0]), "through a front": FirstTokens(swarm.front)}
        delays: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(WARM_UP + REQUESTS):
            for way, client in ways.items():
                delays[way].append(client.delay())
        for client in ways.values():
            client.close()
    for percent, aim in ((50, 2), (99, 10)):
        direct, through = (percentile(delays[way][WARM_UP:], percent) * 1000 for way in ways)
        yield Figure(f"stub peer, first token, direct, p{percent} of {REQUESTS}", direct, "ms")
        yield Figure(f"stub peer, first token, through a front, p{percent} of {REQUESTS}", through, "ms")
        yield Figure(f"stub peer, first token, added by the front, p{percent}", through - direct, "ms", aim)


def measure_throughput(folder: Path) -> Iterator[Figure]:
    """Tokens a second of peers that are all busy, at a rate that a machine has to spare."""
    what = f"{PEERS} stub peers, {PEERS * SLOTS} streams of {RATE} tokens/s"
    with _swarm(folder, _STUB_NODE, peers=PEERS) as swarm:
        rounds = _take_turns(swarm, {"max_tokens": TOKENS, "seed": RATE}, ROUNDS)
    yield from _compared(what, rounds, aim=0.97)
    for way, spent in rounds.items():
        for role in spent[0].processor:
            each = median(measured.per_token_us(role) for measured in spent)
            yield Figure(f"{what}, {way}: processor time per token, {role}", each, "us")


def measure_ceiling(folder: Path) -> Iterator[Figure]:
    """As fast as one front goes, with everything on the same machine."""
    what = f"{PEERS} stub peers, {PEERS * SLOTS} streams flat out"
    with _swarm(folder, _STUB_NODE, peers=PEERS) as swarm:
        rounds = _take_turns(swarm, {"max_tokens": FLAT_OUT_TOKENS}, ROUNDS)
    yield from _compared(what, rounds, aim=None)
    through = rounds["through a front"]
    yield Figure(f"{what}: tokens in an event", median(each.tokens / each.events for each in through), "")
    for role in through[0].processor:
        each = median(measured.per_token_us(role) for measured in through)
        yield Figure(f"{what}: processor time per token, {role}", each, "us")
    front = median(measured.per_token_us("front") for measured in through)
    yield Figure(f"{what}: what a front would do with a core to itself", 1e6 / front, "tokens/s")


def measure_real(folder: Path) -> Iterator[Figure]:
    """The same with real engines, which take turns on the cores there are."""
    what = f"{PEERS} peers with SmolLM2 135M, {PEERS * SLOTS} streams"
    with _swarm(folder, THE_PROGRAM, peers=PEERS) as swarm:
        rounds = _take_turns(swarm, {"max_tokens": REAL_TOKENS}, ROUNDS)
    yield from _compared(what, rounds, aim=None)


@dataclass(frozen=True, slots=True)
class _Swarm:
    front: NodeProcess
    peers: Sequence[NodeProcess]


@contextmanager
def _swarm(folder: Path, program: Program, peers: int) -> Iterator[_Swarm]:
    """`peers` nodes that run `program`, and a front that knows all of them."""
    with NodeProcesses(folder, program) as nodes, NodeProcesses(folder) as fronts:
        flags = ("--model", "demo", "--slots", str(SLOTS))
        founder = nodes.run("start", "peer0", *flags)
        token = founder.token()
        others = [nodes.run("join", f"peer{number}", *flags, token=token) for number in range(1, peers)]
        front = fronts.run("front", "front", token=token)
        everybody = [founder, *others]
        front.wait_until(lambda rows: serves(rows, *(node.name for node in everybody)))
        yield _Swarm(front, everybody)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One round of one way."""

    tokens: int
    events: int
    seconds: float
    processor: Mapping[str, float]
    """Seconds that each role's processes took, engines left out."""

    def per_token_us(self, role: str) -> float:
        return self.processor[role] / self.tokens * 1e6


def _take_turns(swarm: _Swarm, asked: Mapping[str, Any], rounds: int) -> dict[str, list[_Measured]]:
    """What came of it round by round, the first of which warms up."""
    ways = {
        "direct": [peer.api for peer in swarm.peers for _ in range(SLOTS)],
        "through a front": [swarm.front.api] * (len(swarm.peers) * SLOTS),
    }
    measured: dict[str, list[_Measured]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways if number % 2 else reversed(ways):
            measured[way].append(_measure(swarm, ways[way], asked))
    return {way: each[1:] for way, each in measured.items()}


def _measure(swarm: _Swarm, urls: Sequence[str], asked: Mapping[str, Any]) -> _Measured:
    roles = {"front": [swarm.front], "peer": swarm.peers}
    before = {role: _processor_time(nodes) for role, nodes in roles.items()}
    requests = [(url, _request(asked, number)) for number, url in enumerate(urls)]
    answers = ask_each(requests, within=ANSWER_TIMEOUT)
    seconds = max(each.ended_at for each in answers) - min(each.asked_at for each in answers)
    processor = {role: _processor_time(nodes) - before[role] for role, nodes in roles.items()}
    tokens = sum(answer.tokens for answer in answers)
    assert tokens == len(urls) * asked["max_tokens"], f"{tokens} tokens came"
    return _Measured(tokens, sum(answer.events for answer in answers), seconds, processor)


def _request(asked: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {
        "model": DEMO_MODEL_NAME,
        "prompt": f"{number} is the number of this story. Once upon a time",
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
        **asked,
    }


def _processor_time(nodes: Sequence[NodeProcess]) -> float:
    """Seconds that those processes have computed so far, without their engines."""
    times = [psutil.Process(node.process.pid).cpu_times() for node in nodes]
    return sum(each.user + each.system for each in times)


def _compared(what: str, rounds: Mapping[str, Sequence[_Measured]], aim: float | None) -> Iterator[Figure]:
    speeds = {way: [each.tokens / each.seconds for each in measured] for way, measured in rounds.items()}
    for way, each in speeds.items():
        yield Figure(f"{what}, {way}", median(each), "tokens/s")
    direct, through = speeds.values()
    ratio = median(one / other for one, other in zip(through, direct, strict=True))
    yield Figure(f"{what}, through a front / sum of direct", ratio, "x", aim, is_least=True)
