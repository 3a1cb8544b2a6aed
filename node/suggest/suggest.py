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
from node.models.gpu_layers import layers_that_fit
from node.models.memory_estimate import guess_memory
from node.progress_line import in_units
from node.sources.gallery_index import GalleryEntry
from node.suggest.advice_text import speed_text
from node.suggest.machine import Machine, Measured
from node.suggest.stated import (
    Purpose,
    Size,
    has_projector,
    model_file,
    parameters_of,
    purpose_of,
    sha256_of,
    size_of,
)

READING_SPEED = 5.0
"""Tokens per second: people read about 240 words a minute, and a word is a token or a little more."""
_MACHINES_TOLD = 3
"""Of those that are too small for a model."""


@dataclass(frozen=True, slots=True)
class Place:
    """One model on one machine."""

    machine: Machine
    holds: bool
    """It can be asked for it now."""
    problem: str
    """Why it does not fit there, for a person, after the machine's name; empty: it does."""
    room: str
    """What it takes and what there is, for a person."""
    speed: float | None = None
    """Tokens per second that are expected; None: nothing says."""
    basis: str = ""
    """What `speed` comes from, or why there is none."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One model that fits, and where it would run best."""

    entry: GalleryEntry
    size: Size
    places: tuple[Place, ...]
    """Where it fits, the best first: at least one."""
    holders: tuple[str, ...]
    """Nodes that can be asked for it now."""
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

    suggestions: tuple[Suggestion, ...]
    """The best first."""
    too_large: tuple[Unfit, ...]
    unknown: tuple[Unfit, ...]
    """Nobody states their size."""


def advise(entries: Iterable[GalleryEntry], machines: Sequence[Machine], purpose: Purpose) -> Advice:
    """What of `entries` is for `purpose` and fits `machines`, each name once: as `models pull` finds it."""
    suggestions: list[Suggestion] = []
    too_large: list[Unfit] = []
    unknown: list[Unfit] = []
    seen = set()
    for entry in entries:
        if entry.name.casefold() in seen or purpose_of(entry) != purpose:
            continue
        seen.add(entry.name.casefold())
        size = _known_size(entry, machines) or size_of(entry)
        if size is None:
            unknown.append(Unfit(entry, "nobody states its size, and its name does not tell"))
            continue
        places = [_place(entry, size, machine, purpose) for machine in machines]
        fitting = sorted((place for place in places if not place.problem), key=_place_order)
        if fitting:
            suggestions.append(_suggestion(entry, size, fitting, places))
        else:
            needed = in_gib(guess_memory(size.size_bytes).total)
            too_large.append(Unfit(entry, f"{size}; takes about {needed}, and {_problems(places)}"))
    return Advice(tuple(sorted(suggestions, key=_order)), tuple(too_large), tuple(unknown))


def holders(entry: GalleryEntry, machines: Iterable[Machine]) -> tuple[str, ...]:
    """Which of `machines` can be asked for that model now."""
    return tuple(machine.name for machine in machines if _holds(machine, entry))


def _suggestion(
    entry: GalleryEntry, size: Size, fitting: Sequence[Place], places: Sequence[Place]
) -> Suggestion:
    best = fitting[0]
    parameters = parameters_of(model_file(entry), entry.name)
    held = tuple(place.machine.name for place in places if place.holds)
    others = [place.machine.name for place in fitting[1:]]
    reasons = [
        str(size),
        best.room,
        best.basis,
        parameters.note if parameters else "",
        "its projector is not counted: nobody states its size" if has_projector(entry) else "",
        f"fits {', '.join(others)} too" if others else "",
        _held(held, places),
    ]
    return Suggestion(entry, size, tuple(fitting), held, tuple(filter(None, reasons)))


def _held(held: Sequence[str], places: Sequence[Place]) -> str:
    if not held:
        return ""
    is_running = any(place.holds and place.machine.is_running for place in places)
    return f"already on {', '.join(held)}: it can be asked for {'now' if is_running else 'once a node runs'}"


def _place(entry: GalleryEntry, size: Size, machine: Machine, purpose: Purpose) -> Place:
    need = guess_memory(size.size_bytes)
    needed = need.total
    holds = _holds(machine, entry)
    fits_device = layers_that_fit([needed - need.process], machine.device_bytes or (), 0) == 1
    problem = room = ""
    if fits_device:
        room = (
            f"{machine.name}: takes about {in_gib(needed)}, and its GPU has"
            f" {in_gib(sum(machine.device_bytes or ()))} free"
        )
    elif not machine.budget_bytes:
        problem = "does not say how much memory it has"
    elif needed > machine.budget_bytes:
        problem = f"has {in_gib(machine.budget_bytes)} for models"
    else:
        room = _memory_room(needed, machine)
    if not problem and not holds and machine.disk_bytes is not None and size.size_bytes > machine.disk_bytes:
        problem = f"has {in_units(machine.disk_bytes)} of disk left for it"
    if problem:
        return Place(machine, holds, problem, room)
    speed, basis = _expected(entry, size, machine, purpose)
    return Place(machine, holds, "", room, speed, basis)


def _memory_room(needed: int, machine: Machine) -> str:
    room = (
        f"{machine.name}: takes about {in_gib(needed)} of the {in_gib(machine.budget_bytes)} that models may"
        f" have, {in_gib(machine.free_bytes)} are free now"
    )
    if needed > machine.free_bytes:
        room += ", so others make room for it"
    if machine.gpus and machine.device_bytes is None:
        room += f"; what its GPU ({', '.join(machine.gpus)}) holds of it is not known here"
    return room


def _expected(
    entry: GalleryEntry, size: Size, machine: Machine, purpose: Purpose
) -> tuple[float | None, str]:
    """Tokens per second, and what that is based on."""
    if purpose != "chat":
        return None, ""
    if not machine.measured:
        return None, f"no speed was measured on {machine.name} yet"
    parameters = parameters_of(model_file(entry), entry.name)
    read_bytes = size.size_bytes * (parameters.share if parameters else 1.0)
    nearest = min(machine.measured, key=lambda each: (_distance(each, read_bytes), each.model))
    speed = nearest.speed * nearest.read_bytes / read_bytes
    basis = (
        f"measured with {nearest.model} on {machine.name}: {speed_text(nearest.speed)} at {_read(nearest)}"
    )
    if nearest.model.casefold() == entry.name.casefold() and nearest.size_bytes == size.size_bytes:
        return speed, basis
    caveat = (
        ", if as much of it fits the GPU" if machine.gpus and nearest.size_bytes < size.size_bytes else ""
    )
    return speed, f"{basis} -> about {speed_text(speed)}{caveat}"


def _read(measured: Measured) -> str:
    size = in_units(measured.read_bytes)
    return size if measured.share == 1 else f"{size} a token"


def _distance(measured: Measured, read_bytes: float) -> float:
    """How many times larger or smaller, as a logarithm."""
    return abs(math.log(measured.read_bytes / read_bytes))


def _known_size(entry: GalleryEntry, machines: Iterable[Machine]) -> Size | None:
    """As somebody has it."""
    for machine in machines:
        for record in machine.records:
            if _is_same(record.name, record.sha256, entry) and record.size_bytes > 0:
                return Size(record.size_bytes, f"as {machine.name} has it")
    return None


def _holds(machine: Machine, entry: GalleryEntry) -> bool:
    return any(_is_same(record.name, record.sha256, entry) for record in machine.records)


def _is_same(name: str, sha256: str, entry: GalleryEntry) -> bool:
    """The same file under any name; where one side does not know its file, the same name."""
    wanted = sha256_of(entry)
    if wanted and sha256:
        return wanted == sha256
    return name.casefold() == entry.name.casefold()


def _problems(places: Sequence[Place]) -> str:
    """Why no machine will do, the largest ones first."""
    if not places:
        return "no node runs models"
    largest = sorted(places, key=lambda place: (-place.machine.budget_bytes, place.machine.name))
    told = [f"{place.machine.name} {place.problem}" for place in largest[:_MACHINES_TOLD]]
    more = len(largest) - len(told)
    return ", ".join(told) + (f", and {more} more have less" if more else "")


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
