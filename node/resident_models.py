"""Resident models: which models of this node are in memory. Carries out what `residency.py` decides.

async with residents.hold(model):     waits for memory; from then on it is loading or loaded, and stays
residents.note(model)                 its engine's state has changed
await residents.unload(model)         a person wants its memory back
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from node.engine.memory import in_gib
from node.errors import NodeError
from node.residency import (
    Added,
    Admit,
    Asked,
    Dismissed,
    Event,
    Failed,
    Gone,
    Left,
    Load,
    Loaded,
    Refuse,
    Removed,
    Residency,
    ResidencyConfig,
    TimePassed,
    Unload,
    Wanted,
)

logger = logging.getLogger(__name__)


class CannotLoad(NodeError):
    """The model has failed, or does not fit the memory that models of this node may take; says why."""


class ResidentModel(Protocol):
    """A model whose engine can be started and ended."""

    @property
    def name(self) -> str: ...

    @property
    def is_pinned(self) -> bool: ...

    @property
    def is_ready(self) -> bool:
        """Its engine takes requests."""

    @property
    def has_engine(self) -> bool:
        """Also one that has given up."""

    @property
    def failure(self) -> str:
        """Why it takes no memory and cannot be loaded; empty: it does, or can."""

    @property
    def memory_bytes(self) -> int:
        """Measured; 0: it could not be."""

    async def estimate_bytes(self) -> int:
        """What it will take."""

    def start(self) -> None: ...

    def end_engine(self) -> None:
        """`has_engine` turns false once it has ended. What `give_up` said is forgotten."""

    async def wait_engine_ended(self) -> None: ...

    def give_up(self, reason: str) -> None:
        """It cannot be loaded here."""


@dataclass(slots=True, eq=False)
class _Turn:
    """What all who wait for one model wait for."""

    is_over: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""


class ResidentModels:
    """The models of one node that share its memory. One task `run`s it."""

    def __init__(self, budget_bytes: int, keep_alive: float = math.inf) -> None:
        """`keep_alive`: seconds that a model stays which nobody uses."""
        self.budget_bytes = budget_bytes
        self.keep_alive = keep_alive
        self._residency = Residency[ResidentModel](ResidencyConfig(budget_bytes))
        self._known: set[ResidentModel] = set()
        self._turns: dict[ResidentModel, _Turn] = {}
        self._changed = trio.Event()

    async def run(self) -> None:
        """Unload what nobody used for long, until cancelled."""
        while True:
            self._changed = trio.Event()
            with trio.move_on_at(self._residency.wake_at()):
                await self._changed.wait()
            self._handle(TimePassed())

    @asynccontextmanager
    async def hold(self, model: ResidentModel) -> AsyncIterator[None]:
        """Keep `model` in memory. Entering waits until there is room, and for nothing else.

        Raises:
          CannotLoad: there never will be, or it has failed.
        """
        await self._know(model)
        if model.failure:
            raise CannotLoad(model.failure)
        turn = self._turns.setdefault(model, _Turn())
        try:
            self._handle(Asked(model))
            await turn.is_over.wait()
            if turn.refusal:
                raise CannotLoad(turn.refusal)
            yield
        finally:
            if not turn.refusal:
                self._handle(Left(model, was_admitted=turn.is_over.is_set()))

    async def want(self, model: ResidentModel) -> None:
        """Load `model` ahead of the first who asks, if that takes no other one's place."""
        await self._know(model)
        if not model.failure:
            self._handle(Wanted(model))

    def note(self, model: ResidentModel) -> None:
        """Take in that its engine has started, failed or ended. Cheap, for it is called often."""
        if model not in self._known:
            return
        state = self._residency.state(model)
        if model.is_ready and state == "loading":
            self._handle(Loaded(model, model.memory_bytes))
            self._warn_if_large(model)
        elif model.failure and state != "failed":
            self._handle(Failed(model, model.failure))
        elif not (model.failure or model.has_engine) and state != "absent":
            self._handle(Gone(model))

    async def unload(self, model: ResidentModel) -> None:
        """Unload `model` once nothing runs on it; who asks meanwhile has it loaded again after that.

        One that has failed is given another chance. Cancelled: it is unloaded nevertheless.
        """
        self.dismiss(model)
        await model.wait_engine_ended()

    def dismiss(self, model: ResidentModel) -> None:
        """The same, and nobody waits for it."""
        if model in self._known:
            self._handle(Dismissed(model))

    def forget(self, model: ResidentModel) -> None:
        """It never runs again, and its engine has ended: who waited for it was refused."""
        if model in self._known:
            self._known.remove(model)
            self._handle(Removed(model))

    def idle_since(self, model: ResidentModel) -> float | None:
        """Since when nobody uses it; None: somebody does, or it is not loaded."""
        return self._residency.idle_since(model) if model in self._known else None

    @property
    def used_bytes(self) -> int:
        """By all models together."""
        return self._residency.used_bytes

    @property
    def warning(self) -> str:
        """That models take more than they may; empty if they do not."""
        if self._residency.excess_bytes <= 0:
            return ""
        staying = sorted(
            model.name for model in self._known if self._residency.state(model) in ("loading", "loaded")
        )
        return (
            f"models take {in_gib(self.budget_bytes + self._residency.excess_bytes)} of memory and may take"
            f" {in_gib(self.budget_bytes)} (--memory): pinned or in use, {', '.join(staying)}"
            f" {'stays' if len(staying) == 1 else 'stay'}, and nothing else has room"
        )

    async def _know(self, model: ResidentModel) -> None:
        if model in self._known:
            return
        size_bytes = await model.estimate_bytes()
        # Meanwhile it may have been removed.
        if model not in self._known and not model.failure:
            self._known.add(model)
            self._handle(Added(model, size_bytes, model.is_pinned, self.keep_alive))

    def _warn_if_large(self, model: ResidentModel) -> None:
        if model.memory_bytes > self.budget_bytes:
            logger.warning(
                "%s takes %s of memory, and all models of this node may take %s (--memory): it stays while"
                " somebody uses it or it is pinned, and once unloaded it is not loaded again",
                *(model.name, in_gib(model.memory_bytes), in_gib(self.budget_bytes)),
            )
        elif self.warning:
            logger.warning("%s", self.warning)

    def _handle(self, event: Event[ResidentModel]) -> None:
        wake_at = self._residency.wake_at()
        for effect in self._residency.handle(event, trio.current_time()):
            match effect:
                case Load(model):
                    model.start()
                case Unload(model):
                    model.end_engine()
                case Admit(model):
                    self._turns.pop(model).is_over.set()
                case Refuse(model, reason):
                    turn = self._turns.pop(model, _Turn())
                    turn.refusal = reason
                    turn.is_over.set()
                    if not model.failure and self._residency.size_bytes(model) > self.budget_bytes:
                        model.give_up(reason)
        if self._residency.wake_at() != wake_at:
            self._changed.set()
