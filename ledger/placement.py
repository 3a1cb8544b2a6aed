"""Placement: which node should hold which model, as far as the swarm is to decide. Pure.

    placements, hosts, who holds what  ->  plan: the holders of each model, and what cannot be done

Every node plans alone and does its own part of the plan, so there is no leader, and nobody is told.
That works because a plan is made of what all agree on: what admins wrote, what nodes declared, and who
holds a whole copy. It is made in three turns, each over all models, the largest first:

    named     nodes that a person named, and `everywhere`
    kept      copies that are there already stay, the most fitting first
    added     what is missing goes to the hosts with the highest draw

A draw is the same on every node and independent between models (rendezvous hashing: Thaler and Ravishankar,
1998), so copies spread by themselves, a lost host's go to many others, and nothing else moves. A copy that
arrives where the plan wants it changes no plan, because what was planned together fits together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heapify, heappop
from typing import Any

from ledger.records import ModelName, PlacementRecord
from p2p.peer import PeerId

REPLICAS_MAX = 64
"""Of one model. More serve nobody at home, and every one of them is planned by every node."""
_REFUSALS_TOLD = 3
"""Of one model: what a person reads, where a thousand nodes may have no room."""
_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Host:
    """A node that can be planned with: one that is here, or has not been away for long."""

    peer: PeerId
    models_size_max: int = 0
    """Bytes that the swarm may place here; 0: nothing."""
    model_size_max: float = math.inf
    """Bytes of the largest model that it can load, as far as that is known: a copy of a larger one would be
    of no use there."""
    speed_class: float = 1.0
    """How much more it should hold than others (`speed_class`)."""
    held: Mapping[ModelName, str] = field(default_factory=dict)
    """sha256 of each model of which it has a whole copy."""
    owned: frozenset[ModelName] = frozenset()
    """Those of them that its owner put there. They take nothing of what the swarm may use, and stay."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who should hold what."""

    holders: Mapping[ModelName, tuple[PeerId, ...]]
    """For each model that is wanted: sorted. Those whose owner put it there count too."""
    problems: Mapping[ModelName, str]
    """What cannot be done of what is wanted, for a person."""


def speed_class(hardware: Mapping[str, Any]) -> float:
    """How fast a machine should turn out to be, coarsely, from what its node record says of it.

    Nothing that is measured: every node must get the same number, tomorrow too.
    """
    if hardware.get("gpu"):
        return 4.0
    cores = hardware.get("cores")
    return 2.0 if isinstance(cores, int) and cores >= 8 else 1.0


def plan(placements: Iterable[PlacementRecord], hosts: Iterable[Host]) -> Plan:
    """Who should hold what of `placements`; the same whatever the order of both."""
    # The largest first, as always where things are packed; then nothing is left to chance.
    wanted = sorted(placements, key=lambda placement: (-placement.size_bytes, placement.model))
    return _Planning(wanted, sorted(hosts, key=lambda host: host.peer)).plan()


class _Planning:
    """One plan on its way."""

    def __init__(self, wanted: Sequence[PlacementRecord], hosts: Sequence[Host]) -> None:
        self._wanted = wanted
        self._hosts = hosts
        self._by_peer = {host.peer: host for host in hosts}
        self._room = {host.peer: host.models_size_max for host in hosts}
        self._seeds = {host.peer: _number(host.peer) for host in hosts}
        self._chosen: dict[ModelName, set[PeerId]] = {placement.model: set() for placement in wanted}
        self._problems: dict[ModelName, str] = {}
        self._holding: defaultdict[ModelName, list[Host]] = defaultdict(list)
        for host in hosts:
            for model in host.held:
                self._holding[model].append(host)

    def plan(self) -> Plan:
        for placement in self._wanted:
            if placement.nodes or placement.is_everywhere:
                self._choose_named(placement)
        counted = [
            placement for placement in self._wanted if not (placement.nodes or placement.is_everywhere)
        ]
        for placement in counted:
            self._keep(placement)
        for placement in counted:
            self._add(placement)
        holders = {model: tuple(sorted(chosen)) for model, chosen in self._chosen.items()}
        return Plan(holders, self._problems)

    def _choose_named(self, placement: PlacementRecord) -> None:
        if placement.is_everywhere:
            named = [host for host in self._hosts if host.models_size_max or _holds(host, placement)]
        else:
            named = [self._by_peer[peer] for peer in sorted(set(placement.nodes)) if peer in self._by_peer]
        refusals = [refusal for host in named if (refusal := self._take(host, placement))]
        absent = 0 if placement.is_everywhere else len(set(placement.nodes)) - len(named)
        if absent:
            refusals.append(f"{absent} of the nodes it is wanted on are not there")
        if refusals:
            more = f"; and {len(refusals) - _REFUSALS_TOLD} more" if len(refusals) > _REFUSALS_TOLD else ""
            self._problems[placement.model] = "; ".join(refusals[:_REFUSALS_TOLD]) + more

    def _keep(self, placement: PlacementRecord) -> None:
        holding = [host for host in self._holding[placement.model] if _holds(host, placement)]
        self._take_best(holding, placement)

    def _add(self, placement: PlacementRecord) -> None:
        if self._missing(placement):
            self._take_best(self._hosts, placement)
        missing = self._missing(placement)
        if missing:
            wanted = min(placement.replicas, REPLICAS_MAX)
            self._problems[placement.model] = (
                f"{wanted - missing} of {wanted} copies have a place: no other node takes models in"
                " and has room for it"
            )

    def _take_best(self, hosts: Sequence[Host], placement: PlacementRecord) -> None:
        """Choose the best of `hosts`, as many as are missing."""
        for host in self._best(hosts, placement):
            if not self._missing(placement):
                break
            self._take(host, placement)

    def _missing(self, placement: PlacementRecord) -> int:
        return min(placement.replicas, REPLICAS_MAX) - len(self._chosen[placement.model])

    def _take(self, host: Host, placement: PlacementRecord) -> str:
        """Choose `host`, or say why not, for a person."""
        refusal = self._refusal(host, placement)
        if not refusal:
            self._chosen[placement.model].add(host.peer)
            if placement.model not in host.owned:
                self._room[host.peer] -= placement.size_bytes
        return refusal

    def _refusal(self, host: Host, placement: PlacementRecord) -> str:
        """Why `host` cannot hold it; empty if it can."""
        model = placement.model
        if host.peer in self._chosen[model]:
            return "it has it already"
        if _holds(host, placement) and model in host.owned:
            return ""
        if model in host.held and not _holds(host, placement) and model in host.owned:
            return f"{host.peer} has another file of that name"
        if not host.models_size_max:
            return f"{host.peer} takes no models in"
        if placement.size_bytes > self._room[host.peer]:
            return f"{host.peer} has no room left"
        if placement.size_bytes > host.model_size_max:
            return f"{host.peer} has too little memory"
        return ""

    def _best(self, hosts: Sequence[Host], placement: PlacementRecord) -> Iterator[Host]:
        """`hosts`, the highest draw first, and before all those whose owner put it there."""
        model, seed = placement.model, _number(placement.model)
        # Most hosts have room, so the first few mostly do: a heap does not sort the others.
        draws = [
            (-_draw(seed ^ self._seeds[host.peer], host.speed_class) - (model in host.owned), place)
            for place, host in enumerate(hosts)
        ]
        heapify(draws)
        while draws:
            yield hosts[heappop(draws)[1]]


def _holds(host: Host, placement: PlacementRecord) -> bool:
    """Whether it has a whole copy of what is wanted."""
    sha256 = host.held.get(placement.model)
    return sha256 is not None and placement.sha256 in ("", sha256)


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _draw(seed: int, weight: float) -> float:
    """A number below 1 that is the highest with a chance in proportion to `weight` (Efraimidis and Spirakis,
    2006). The seed is mixed by the finisher of splitmix64."""
    seed = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    seed = (seed ^ seed >> 27) * 0x94D049BB133111EB & _MASK
    drawn = seed / 2**64
    return drawn if weight == 1 else float(drawn ** (1 / weight))
