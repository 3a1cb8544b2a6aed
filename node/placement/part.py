"""What one node has to do about a plan. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ledger.placement import REPLICAS_MAX, Plan
from ledger.records import ModelName, PlacementRecord
from p2p.peer import PeerId


@dataclass(frozen=True, slots=True)
class Surplus:
    """A copy that the swarm put here and that is to be elsewhere."""

    model: ModelName
    sha256: str
    others: tuple[PeerId, ...]
    """Who is to hold it instead."""
    wanted: int
    """How many of them must promise to, before it goes."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be done, each in the order of the models' names."""

    fetch: tuple[PlacementRecord, ...] = ()
    surplus: tuple[Surplus, ...] = ()
    withdrawn: tuple[ModelName, ...] = ()
    """Copies that the swarm put here, and that an admin took back."""


def own_part(
    me: PeerId,
    made: Plan,
    placements: Collection[PlacementRecord],
    *,
    held: Mapping[ModelName, str],
    placed: Mapping[ModelName, str],
    withdrawn: Collection[ModelName],
) -> Part:
    """What `me` has to do.

    Args:
      held: sha256 of every whole copy that is here.
      placed: of those that the swarm put here.
      withdrawn: models that were wanted somewhere and are not any more. One that nobody knows anything of, as
        in a ledger that has just been lost, is none: its copy stays.
    """
    wanted = sorted(placements, key=lambda placement: placement.model)
    return Part(
        fetch=tuple(
            placement
            for placement in wanted
            if me in made.holders[placement.model] and not _is_here(placement, held)
        ),
        surplus=tuple(
            _surplus(placement, placed[placement.model], made.holders[placement.model])
            for placement in wanted
            if placement.model in placed and me not in made.holders[placement.model]
        ),
        withdrawn=tuple(sorted(model for model in placed if model in withdrawn)),
    )


def _is_here(placement: PlacementRecord, held: Mapping[ModelName, str]) -> bool:
    sha256 = held.get(placement.model)
    return sha256 is not None and placement.sha256 in ("", sha256)


def _surplus(placement: PlacementRecord, sha256: str, holders: tuple[PeerId, ...]) -> Surplus:
    wanted = len(set(placement.nodes)) or min(placement.replicas, REPLICAS_MAX)
    # Of an older file, those who will hold the newer one must have that.
    return Surplus(placement.model, placement.sha256 or sha256, holders, max(wanted, 1))
