"""Harm: what the honest believe of each other while one member lies, to the last moment of it.

    python -m tests.sim.harm                              each lie about lives, once
    python -m tests.sim.harm "everybody is gone" -n 12    one of them, in a swarm of twelve

A pair is an honest observer and an honest peer, both well all along: whatever one of them
thinks of the other but "alive" is the liar's doing. Shares are of pairs times seconds.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from ledger.rumour import Status
from p2p.peer import PeerId
from tests.sim.liar import LEDGER_LIES, PROBE_LIES, make_liar
from tests.sim.world import World

LIAR = 5
"""The number of the member that lies: a worker, who may not decide for the swarm."""

SIZE = 8
"""Small enough that the liar reaches everybody itself, which is when it does most harm."""

SETTLED_AFTER = 10.0
"""Seconds after which the members have found each other."""


@dataclass(frozen=True, slots=True)
class Harm:
    """Done to all pairs of the honest together."""

    shares: dict[Status, float]
    """Of the time, by what was believed."""
    longest: dict[Status, float]
    """Seconds that one pair spent there without a break, at most."""
    longest_doubt: float
    """Seconds that one pair was without being alive, in whatever way."""
    refusals: Counter[str]
    """By reason, what the honest refused to take into their ledgers."""
    refutations: int
    """How often the most accused one had to take back what was said of it."""

    @property
    def doubted(self) -> float:
        """The share of the time in which a peer was not alive."""
        return sum(share for status, share in self.shares.items() if status is not Status.ALIVE)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """So long a pair held one belief."""

    status: Status
    length: float


def honest_but(world: World, liar: int = LIAR) -> list[PeerId]:
    """Who runs and tells the truth."""
    return [node.peer for node in world if node.number != liar]


def harm_of(lie: str | None, size: int = SIZE, duration: float = 60.0, seed: int = 1) -> Harm:
    """Let one of `size` members tell `lie` (about lives, or about the ledger) for so many seconds.

    None: all tell the truth, to compare with.
    """
    world = World(size, seed)
    world.run(SETTLED_AFTER)
    if lie is not None:
        ledger_lies = LEDGER_LIES[lie][0] if lie in LEDGER_LIES else None
        make_liar(world[LIAR], ledger_lies, PROBE_LIES.get(lie))
    before = {node.peer: node.detector.beliefs.incarnation for node in world}
    refused_before = refusals(world)
    stretches = _watch(world, duration)
    accused = honest_but(world)
    refutations = max(world.nodes[peer].detector.beliefs.incarnation - before[peer] for peer in accused)
    return _sum_up(stretches, refusals(world) - refused_before, refutations)


def refusals(world: World) -> Counter[str]:
    """What the honest have refused so far."""
    total: Counter[str] = Counter()
    for peer in honest_but(world):
        total.update(world.nodes[peer].replica.refusals)
    return total


def _watch(world: World, duration: float) -> list[list[_Stretch]]:
    """What each pair believed in the next `duration` seconds, in order."""
    began_at, told = world.now, len(world.story)
    changes: dict[tuple[PeerId, PeerId], list[tuple[float, Status]]] = {
        (one, other): [(began_at, world.nodes[one].status(other))]
        for one, other in permutations(honest_but(world), 2)
    }
    world.run(duration)
    for seen in world.story[told:]:
        if (seen.observer, seen.peer) in changes:
            changes[seen.observer, seen.peer].append((seen.at, seen.status))
    return [list(_stretches(each, world.now)) for each in changes.values()]


def _stretches(changes: list[tuple[float, Status]], ended_at: float) -> Iterator[_Stretch]:
    ends = [at for at, _ in changes[1:]] + [ended_at]
    for (at, status), end in zip(changes, ends, strict=True):
        yield _Stretch(status, end - at)


def _sum_up(pairs: list[list[_Stretch]], refused: Counter[str], refutations: int) -> Harm:
    total = sum(each.length for pair in pairs for each in pair)
    shares, longest, longest_doubt = dict.fromkeys(Status, 0.0), dict.fromkeys(Status, 0.0), 0.0
    for pair in pairs:
        doubt = 0.0
        for each in pair:
            shares[each.status] += each.length / total
            longest[each.status] = max(longest[each.status], each.length)
            doubt = 0.0 if each.status is Status.ALIVE else doubt + each.length
            longest_doubt = max(longest_doubt, doubt)
    return Harm(shares, longest, longest_doubt, refused, refutations)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a lying member makes the others believe.")
    parser.add_argument("lies", nargs="*", help="all about lives, unless named")
    parser.add_argument("-n", "--size", type=int, default=SIZE)
    parser.add_argument("-t", "--time", type=float, default=60.0, help="seconds of lying")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for lie in [None, *(args.lies or PROBE_LIES)]:
        harm = harm_of(lie, args.size, args.time, args.seed)
        print(f"{lie or 'nobody lies'}: not alive {harm.doubted:.2%}, at most {harm.longest_doubt:.2f} s")
        for status in (Status.SUSPECT, Status.OFFLINE):
            share, longest = harm.shares[status], harm.longest[status]
            print(f"  {status.name.lower()} {share:.2%}, at most {longest:.2f} s")
        print(f"  refutations of one {harm.refutations}, refused {dict(harm.refusals)}")


if __name__ == "__main__":
    main()
