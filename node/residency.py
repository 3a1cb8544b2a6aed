"""Residency: which models are in memory, where not all of them fit. Reads no clock, starts nothing.

    absent --Load--> loading --Loaded--> loaded --Unload--> leaving --Gone--> absent
                        +-----------------Unload---------------^
                        +---Failed---> failed --Unload, where a person dismissed it--> leaving

Who asks for a model waits in one queue, in order of arrival. The first in it gets its
memory from what is free, then from models nobody uses, the least recently used first;
none is unloaded before all that must go can. A model in use is never unloaded. If one
is in the way for longer than `patience`, who asks for *it* from then on waits behind,
so that it comes to rest and nobody starves.

What a model takes is an estimate until it was loaded once, and measured from then on.
A pinned model goes only when a person says so. One that failed takes no memory and is
not loaded again before a person dismissed it; who waited for it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from node.engine.memory import in_gib

Key = TypeVar("Key")
"""What a model is called here."""

ResidencyState: TypeAlias = Literal["absent", "loading", "loaded", "leaving", "failed"]


@dataclass(frozen=True, slots=True)
class ResidencyConfig:
    """How much there is, and how long one waits for it."""

    budget_bytes: int
    """Of all models together."""
    patience: float = 10.0
    """Seconds for which a model in use keeps others from being loaded. With less, two models that are both
    in demand and do not fit together would spend most of their time being loaded."""


@dataclass(frozen=True, slots=True)
class Added(Generic[Key]):
    """There is a model, and it is not loaded."""

    key: Key
    size_bytes: int
    """Estimated."""
    is_pinned: bool = False
    keep_alive: float = math.inf
    """Seconds that it stays without being used."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[Key]):
    """One request wants to use it, and waits for `Admit`."""

    key: Key


@dataclass(frozen=True, slots=True)
class Left(Generic[Key]):
    """That request has ended, or does not wait any more."""

    key: Key
    was_admitted: bool


@dataclass(frozen=True, slots=True)
class Wanted(Generic[Key]):
    """It should be loaded, if that takes no other model's place."""

    key: Key


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Key]):
    """It is ready."""

    key: Key
    size_bytes: int
    """Measured; 0: it could not be."""


@dataclass(frozen=True, slots=True)
class Gone(Generic[Key]):
    """Its process has ended, whoever ended it, and it can be loaded again."""

    key: Key


@dataclass(frozen=True, slots=True)
class Failed(Generic[Key]):
    """It cannot be loaded, and takes no memory. Nobody asks for it from now on until it is `Gone`."""

    key: Key
    reason: str
    """For a person."""


@dataclass(frozen=True, slots=True)
class Dismissed(Generic[Key]):
    """A person wants it unloaded, once nothing runs on it, or given another chance, if it failed."""

    key: Key


@dataclass(frozen=True, slots=True)
class Removed(Generic[Key]):
    """This node has it no more, and its process has ended."""

    key: Key


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `wake_at`."""


Event: TypeAlias = (
    Added[Key]
    | Asked[Key]
    | Left[Key]
    | Wanted[Key]
    | Loaded[Key]
    | Gone[Key]
    | Failed[Key]
    | Dismissed[Key]
    | Removed[Key]
    | TimePassed
)


@dataclass(frozen=True, slots=True)
class Load(Generic[Key]):
    """Start its engine."""

    key: Key


@dataclass(frozen=True, slots=True)
class Unload(Generic[Key]):
    """End its engine, if it has one: `Gone` or `Failed` follows. Nothing runs on it."""

    key: Key


@dataclass(frozen=True, slots=True)
class Admit(Generic[Key]):
    """All who wait for it may use it, as soon as it is loaded."""

    key: Key


@dataclass(frozen=True, slots=True)
class Refuse(Generic[Key]):
    """All who wait for it wait in vain."""

    key: Key
    reason: str
    """For a person."""


Effect: TypeAlias = Load[Key] | Unload[Key] | Admit[Key] | Refuse[Key]


@dataclass(slots=True)
class _Model:
    size_bytes: int
    estimated_bytes: int
    is_pinned: bool
    keep_alive: float
    state: ResidencyState = "absent"
    running: int = 0
    """Requests that were admitted."""
    waiting: int = 0
    waits_since: float = 0.0
    last_used: float = 0.0
    is_claimed: bool = False
    """It has to make room: nobody is admitted to it."""
    is_dismissed: bool = False

    @property
    def is_resident(self) -> bool:
        return self.state in ("loading", "loaded")

    @property
    def is_idle(self) -> bool:
        return self.is_resident and not self.running

    @property
    def takes_requests(self) -> bool:
        return self.is_resident and not (self.is_claimed or self.is_dismissed)

    @property
    def expires_at(self) -> float:
        may_expire = self.state == "loaded" and not (self.running or self.waiting or self.is_pinned)
        return self.last_used + self.keep_alive if may_expire else math.inf


@dataclass(slots=True)
class Residency(Generic[Key]):
    """Who may be in memory."""

    config: ResidencyConfig
    _models: dict[Key, _Model] = field(default_factory=dict)
    _queue: list[Key] = field(default_factory=list)
    """Models that somebody waits for, in the order in which that began."""

    def handle(self, event: Event[Key], now: float) -> list[Effect[Key]]:
        """Take in what happened; returns what to do about it, in that order."""
        effects: list[Effect[Key]] = []
        match event:
            case Added(key, size_bytes, is_pinned, keep_alive):
                self._models[key] = _Model(size_bytes, size_bytes, is_pinned, keep_alive)
            case Asked(key):
                self._on_asked(key, self._models[key], now)
            case Left(key, was_admitted):
                self._on_left(key, was_admitted, now)
            case Wanted(key):
                effects += self._on_wanted(key, self._models[key], now)
            case Loaded(key, size_bytes):
                self._on_loaded(self._models[key], size_bytes, now)
            case Gone(key):
                model = self._models[key]
                model.state, model.is_dismissed = "absent", False
            case Failed(key, reason):
                effects += self._on_failed(key, reason)
            case Dismissed(key):
                model = self._models[key]
                model.is_dismissed = model.is_resident or model.state == "failed"
            case Removed(key):
                self._models.pop(key, None)
                self._queue = [other for other in self._queue if other != key]
        effects += self._settle(now)
        return effects

    def wake_at(self) -> float:
        """When to say that time has passed; infinite if nothing happens by itself."""
        return min((model.expires_at for model in self._models.values()), default=math.inf)

    def size_bytes(self, key: Key) -> int:
        """What it takes: measured if it was ever loaded, else estimated."""
        return self._models[key].size_bytes

    def state(self, key: Key) -> ResidencyState:
        return self._models[key].state

    @property
    def used_bytes(self) -> int:
        """By all that are in memory, or on their way in or out."""
        return sum(
            model.size_bytes for model in self._models.values() if model.state not in ("absent", "failed")
        )

    @property
    def excess_bytes(self) -> int:
        """How far those that stay are above the budget, as a measured size may be; below 0: what is free."""
        staying = sum(model.size_bytes for model in self._models.values() if model.is_resident)
        return staying - self.config.budget_bytes

    def idle_since(self, key: Key) -> float | None:
        """Since when nobody uses it; None: somebody does, or it is not loaded."""
        model = self._models[key]
        return model.last_used if model.state == "loaded" and not model.running else None

    def _on_asked(self, key: Key, model: _Model, now: float) -> None:
        model.waiting += 1
        if key not in self._queue:
            self._queue.append(key)
            model.waits_since = now

    def _on_wanted(self, key: Key, model: _Model, now: float) -> list[Effect[Key]]:
        if model.state != "absent":
            return []
        if model.size_bytes > self.config.budget_bytes:
            return [self._refuse(key, self._reason(model.size_bytes, 0))]
        if not self._queue and self._is_room(key):
            return [self._load(key, now)]
        return []

    def _on_left(self, key: Key, was_admitted: bool, now: float) -> None:
        model = self._models.get(key)
        if model is None:
            return  # It was removed; that ended all who used it.
        if was_admitted:
            model.running -= 1
            model.last_used = now
            return
        model.waiting -= 1
        if not model.waiting:
            self._queue.remove(key)

    def _on_loaded(self, model: _Model, size_bytes: int, now: float) -> None:
        if model.state == "loading":
            model.state, model.last_used = "loaded", now
            model.size_bytes = size_bytes or model.size_bytes

    def _on_failed(self, key: Key, reason: str) -> list[Effect[Key]]:
        self._models[key].state = "failed"
        return [self._refuse(key, reason)] if key in self._queue else []

    def _settle(self, now: float) -> list[Effect[Key]]:
        """What follows from how things stand."""
        effects: list[Effect[Key]] = [
            self._unload(key)
            for key, model in self._models.items()
            if (model.is_dismissed and not model.running) or model.expires_at <= now
        ]
        # Measured, a model may be larger than it was estimated.
        effects += [self._unload(victim) for victim in self._victims(self.excess_bytes, may_be_busy=False)]
        is_blocked = False
        for key in tuple(self._queue):
            model = self._models[key]
            if model.state == "absent" and not is_blocked:
                served = self._serve(key, now)
                is_blocked = key in self._queue
                effects += served
        if not is_blocked:
            self._claim(())
        effects += [self._admit(key, now) for key in tuple(self._queue) if self._models[key].takes_requests]
        return effects

    def _serve(self, key: Key, now: float) -> list[Effect[Key]]:
        """Load the first of the queue, or make room for it, or see that room comes."""
        model = self._models[key]
        pinned = sum(other.size_bytes for other in self._models.values() if _stays(other))
        if model.size_bytes + pinned > self.config.budget_bytes:
            return [self._refuse(key, self._reason(model.size_bytes, pinned))]
        if self._is_room(key):
            return [self._load(key, now), self._admit(key, now)]
        victims = self._victims(self.excess_bytes + model.size_bytes, may_be_busy=True)
        if all(self._models[victim].is_idle for victim in victims):
            self._claim(())
            return [self._unload(victim) for victim in victims]
        self._claim(victims if now - model.waits_since >= self.config.patience else ())
        return []

    def _victims(self, shortage: int, *, may_be_busy: bool) -> list[Key]:
        """Who must go so that `shortage` bytes come free."""
        candidates = [
            (not model.is_idle, not model.is_claimed, model.last_used, number, key)
            for number, (key, model) in enumerate(self._models.items())
            if model.is_resident and not model.is_pinned and (may_be_busy or model.is_idle)
        ]
        victims: list[Key] = []
        for *_, key in sorted(candidates, key=lambda candidate: candidate[:-1]):
            if shortage <= 0:
                break
            victims.append(key)
            shortage -= self._models[key].size_bytes
        # A large one that comes last may make the smaller ones before it needless.
        for key in reversed(victims[:-1]):
            if shortage + self._models[key].size_bytes <= 0:
                victims.remove(key)
                shortage += self._models[key].size_bytes
        return victims

    def _is_room(self, key: Key) -> bool:
        return self.used_bytes + self._models[key].size_bytes <= self.config.budget_bytes

    def _claim(self, victims: Iterable[Key]) -> None:
        claimed = set(victims)
        for key, model in self._models.items():
            model.is_claimed = key in claimed

    def _load(self, key: Key, now: float) -> Load[Key]:
        model = self._models[key]
        model.state, model.last_used = "loading", now
        return Load(key)

    def _unload(self, key: Key) -> Unload[Key]:
        model = self._models[key]
        if model.state == "failed":
            # It may be what was measured that does not fit.
            model.size_bytes = model.estimated_bytes
        model.state, model.is_dismissed = "leaving", False
        return Unload(key)

    def _admit(self, key: Key, now: float) -> Admit[Key]:
        model = self._models[key]
        model.running, model.waiting, model.last_used = model.running + model.waiting, 0, now
        self._queue.remove(key)
        return Admit(key)

    def _refuse(self, key: Key, reason: str) -> Refuse[Key]:
        self._models[key].waiting = 0
        self._queue = [other for other in self._queue if other != key]
        return Refuse(key, reason)

    def _reason(self, size_bytes: int, pinned: int) -> str:
        budget = f"the models of this node may take {in_gib(self.config.budget_bytes)} (--memory)"
        held = f", and those that are pinned hold {in_gib(pinned)}" if pinned else ""
        return f"it needs {in_gib(size_bytes)} of memory; {budget}{held}"


def _stays(model: _Model) -> bool:
    return model.is_pinned and model.is_resident and not model.is_dismissed
