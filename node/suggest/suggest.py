"""Suggestions: which models fit which machines, how fast they would be there, and in which order. Pure.

    memory     what an engine takes beside the weights is guessed as for any model that was not looked into
               (`models/memory_estimate.py`); it must fit what models may take there, or a GPU as a whole
    speed      decoding reads the weights once for each token, so it is bound by memory: on one machine, half
               the weights are twice the tokens. The measured model whose size is nearest counts, for very
               small ones spend their time on other things too
    order      those that are as fast as one reads, the largest first; then those of which nobody knows; then
               the slow ones, the fastest first

What fits nowhere, or has no size that anybody states, is never suggested; it is told apart, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.engine.memory import in_gib
from node.models.memory_estimate import MemoryEstimate, guess_memory
from node.progress_line import in_units
from node.sources.gallery_index import GalleryEntry
from node.suggest.advice_text import speed_text
from node.suggest.fit import fits_gpu, lack_of_memory
from node.suggest.holdings import Holdings
from node.suggest.machine import Machine, Measured
from node.suggest.stated import (
    Parameters,
    Purpose,
    Size,
    has_projector,
    model_file,
    parameters_of,
    purpose_of,
    size_of,
)

READING_SPEED = 5.0
"""Tokens per second: people read about 240 words a minute, and a word is a token or a little more."""
_MACHINES_MAX = 32
"""That are looked at: ourselves, and of a larger swarm those with most memory. Each is tried with thousands
of models."""
_MACHINES_TOLD = 3
"""Of those that are too small for a model."""


@dataclass(frozen=True, slots=True)
class Place:
    """One model on one machine that it fits."""

    machine: Machine
    holds: bool
    """It has it."""
    is_on_gpu: bool
    """Its GPU takes it whole."""
    speed: float | None
    """Tokens per second that are expected; None: nothing was measured there."""
    measured: Measured | None
    """What `speed` comes from."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One model that fits, and where it would run best."""

    entry: GalleryEntry
    size: Size
    places: tuple[Place, ...]
    """Where it fits, the best first: at least one."""
    holders: tuple[str, ...]
    """Nodes that have it."""
    reasons: tuple[str, ...]
    """One line each, for a person."""

    @property
    def best(self) -> Place:
        """Where it would run best."""
        return self.places[0]


@dataclass(frozen=True, slots=True)
class Unfit:
    """One model that is not suggested."""

    entry: GalleryEntry
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What is to be said of all models of one purpose."""

    machines: tuple[Machine, ...]
    """That were looked at."""
    suggestions: tuple[Suggestion, ...]
    """The best first."""
    too_large: tuple[Unfit, ...]
    unknown: tuple[Unfit, ...]
    """Nobody states their size."""


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of one entry, whichever the machine."""

    entry: GalleryEntry
    purpose: Purpose
    size: Size
    need: MemoryEstimate
    parameters: Parameters | None
    holders: Sequence[Machine]

    @property
    def read_bytes(self) -> float:
        """For each token."""
        return self.size.size_bytes * (self.parameters.share if self.parameters else 1.0)


def advise(entries: Iterable[GalleryEntry], machines: Sequence[Machine], purpose: Purpose) -> Advice:
    """What of `entries` is for `purpose` and fits `machines`, each name once: as `models pull` finds it."""
    holdings = Holdings(machines)
    looked_at = sorted(machines, key=lambda each: (not each.is_self, -each.budget_bytes, each.name))
    looked_at = looked_at[:_MACHINES_MAX]
    suggestions: list[Suggestion] = []
    too_large: list[Unfit] = []
    unknown: list[Unfit] = []
    seen = set()
    for entry in entries:
        if entry.name.casefold() in seen or purpose_of(entry) != purpose:
            continue
        seen.add(entry.name.casefold())
        model = _model(entry, purpose, holdings)
        if model is None:
            unknown.append(Unfit(entry, "nobody states its size, and its name does not tell"))
        elif places := sorted(_places(model, looked_at), key=_place_order):
            suggestions.append(_suggestion(model, places))
        else:
            too_large.append(Unfit(entry, f"{model.size}; {_why_too_large(model, looked_at)}"))
    return Advice(tuple(looked_at), tuple(sorted(suggestions, key=_order)), tuple(too_large), tuple(unknown))


def _model(entry: GalleryEntry, purpose: Purpose, holdings: Holdings) -> _Model | None:
    """None: nobody states its size."""
    held = holdings.of(entry)
    sizes = (
        Size(record.size_bytes, f"as {machine.name} has it") for machine, record in held if record.size_bytes
    )
    size = next(sizes, None) or size_of(entry)
    if size is None:
        return None
    parameters = parameters_of(model_file(entry), entry.name)
    holders = [machine for machine, _ in held]
    return _Model(entry, purpose, size, guess_memory(size.size_bytes), parameters, holders)


def _places(model: _Model, machines: Iterable[Machine]) -> Iterable[Place]:
    for machine in machines:
        if not _obstacle(model, machine):
            speed, measured = _expected(model, machine)
            yield Place(machine, machine in model.holders, fits_gpu(model.need, machine), speed, measured)


def _obstacle(model: _Model, machine: Machine) -> str:
    """Why `model` does not fit `machine`, for a person, after its name; empty: it does."""
    if lack := lack_of_memory(model.need, machine):
        return lack
    disk_bytes = machine.disk_bytes
    if disk_bytes is not None and model.size.size_bytes > disk_bytes and machine not in model.holders:
        return f"has {in_units(disk_bytes)} of disk left for it"
    return ""


def _expected(model: _Model, machine: Machine) -> tuple[float | None, Measured | None]:
    """Tokens per second, and what that comes from."""
    # What gives vectors decodes nothing.
    if model.purpose != "chat" or not machine.measured:
        return None, None
    read_bytes = model.read_bytes
    nearest = min(
        machine.measured, key=lambda each: (abs(math.log(each.read_bytes / read_bytes)), each.model)
    )
    return nearest.speed * nearest.read_bytes / read_bytes, nearest


def _suggestion(model: _Model, places: Sequence[Place]) -> Suggestion:
    best, others = places[0], [place.machine.name for place in places[1:]]
    held = tuple(machine.name for machine in model.holders)
    reasons = [
        str(model.size),
        _room(model, best),
        _basis(model, best),
        model.parameters.note if model.parameters else "",
        "its projector is not counted: nobody states its size" if has_projector(model.entry) else "",
        f"fits {', '.join(others)} too" if others else "",
        _held(model.holders),
    ]
    return Suggestion(model.entry, model.size, tuple(places), held, tuple(filter(None, reasons)))


def _room(model: _Model, place: Place) -> str:
    """What it takes there and what there is."""
    machine, needed = place.machine, model.need.total
    room = f"{machine.name}: takes about {in_gib(needed)}"
    if place.is_on_gpu:
        return f"{room}, and its GPU has {in_gib(sum(machine.device_bytes or ()))} free"
    room += (
        f" of the {in_gib(machine.budget_bytes)} that models may have, {in_gib(machine.free_bytes)} are free"
    )
    if needed > machine.free_bytes and not place.holds:
        room += ", so others make room for it"
    if machine.gpus and machine.device_bytes is None:
        room += f"; how much of it its GPU ({', '.join(machine.gpus)}) takes is not known here"
    return room


def _basis(model: _Model, place: Place) -> str:
    """Where the speed comes from, or why there is none."""
    machine, measured = place.machine, place.measured
    if measured is None or place.speed is None:
        return f"no speed was measured on {machine.name} yet" if model.purpose == "chat" else ""
    read = in_units(measured.read_bytes) + (" a token" if measured.share != 1 else "")
    basis = f"measured with {measured.model} on {machine.name}: {speed_text(measured.speed)} at {read}"
    if measured.read_bytes == model.read_bytes:
        return basis
    is_larger = measured.size_bytes < model.size.size_bytes
    caveat = ", if as much of it fits the GPU" if machine.gpus and is_larger else ""
    return f"{basis} -> about {speed_text(place.speed)}{caveat}"


def _held(holders: Sequence[Machine]) -> str:
    if not holders:
        return ""
    names = ", ".join(machine.name for machine in holders)
    is_running = any(machine.is_running for machine in holders)
    return f"already on {names}: it can be asked for {'now' if is_running else 'once a node runs'}"


def _why_too_large(model: _Model, machines: Sequence[Machine]) -> str:
    """Why no machine will do, the largest ones first."""
    if not machines:
        return "no node runs models"
    largest = sorted(machines, key=lambda machine: (-machine.budget_bytes, machine.name))
    told = [f"{machine.name} {_obstacle(model, machine)}" for machine in largest[:_MACHINES_TOLD]]
    more = len(largest) - len(told)
    last = f", and {more} more have less" if more else ""
    return f"takes about {in_gib(model.need.total)}, and {', '.join(told)}{last}"


def _place_order(place: Place) -> tuple[float, bool, bool, int, str]:
    """The fastest first; then who has it, then ourselves, then who has most room."""
    machine = place.machine
    return -(place.speed or 0), not place.holds, not machine.is_self, -machine.free_bytes, machine.name


def _order(suggestion: Suggestion) -> tuple[int, float, str]:
    speed, size_bytes = suggestion.best.speed, suggestion.size.size_bytes
    if speed is None:
        return 1, -size_bytes, suggestion.entry.name
    if speed >= READING_SPEED:
        return 0, -size_bytes, suggestion.entry.name
    return 2, -speed, suggestion.entry.name
