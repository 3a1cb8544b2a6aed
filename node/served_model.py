"""One model of this node, from cold file to running engine.

    cold --want--> loading --> loaded         loading again after each crash
                      |
                      +------> failed         with a reason, as is a file with a problem

Its engine starts when somebody wants it and then stays. Its file is hashed in the
background, after a load that is under way: both read all of it, and the second
finds it in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import trio

from federation.backend import ModelInfo
from federation.errors import Refused
from ledger.records import Capability, Load, ModelRecord, ModelState
from node.engine.engine import Engine
from node.engine.errors import EngineUnavailable
from node.engine.wire import EngineParams, ModelFacts
from node.models.definition import ModelDefinition
from node.models.errors import ModelError
from node.models.hashing import FileHasher
from node.speeds import Speeds

logger = logging.getLogger(__name__)

_CAPABILITIES: tuple[Capability, ...] = ("chat", "completion")
"""Of most models; of others we know once they were loaded."""

_WAITING_MAX = 64
"""Requests that wait for a model to load. Slots are few: of more, most would only wait to be refused."""

MakeEngine: TypeAlias = Callable[[EngineParams, Callable[[], None]], Engine]
"""An engine for these parameters that calls back when its state changed."""


def make_engine(params: EngineParams, on_change: Callable[[], None], *, memory_max: int = 0) -> Engine:
    """A real engine, which may take `memory_max` bytes; 0: as many as there are."""
    return Engine(replace(params, memory_max=memory_max), on_change=on_change)


class ServedModel:
    """One model of a worker. One task `run`s it."""

    def __init__(
        self,
        definition: ModelDefinition,
        *,
        slots: int,
        hasher: FileHasher,
        on_change: Callable[[], None],
        make_engine: MakeEngine,
    ) -> None:
        self.definition = definition
        self.sha256 = ""
        self.speeds = Speeds()
        """As its answers showed; kept over restarts of its engine."""
        self._slots = slots
        self._hasher = hasher
        self._on_change = on_change
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._wanted = trio.Event()
        self._waiting = 0
        self._problem = definition.problem
        self._life = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def facts(self) -> ModelFacts | None:
        """Known once it was loaded."""
        return self._engine.facts if self._engine else None

    @property
    def state(self) -> ModelState:
        if self._problem:
            return "failed"
        if self._engine is None:
            return "cold"
        match self._engine.state:
            case "ready":
                return "loaded"
            case "failed":
                return "failed"
            case "starting" | "restarting":
                return "loading"

    @property
    def reason(self) -> str:
        """Why it does not run, for a person."""
        return self._problem or (self._engine.reason if self._engine else "")

    def info(self) -> ModelInfo:
        return ModelInfo(
            self.definition.name, self.state, self._capabilities, self._context_size, self.reason
        )

    def record(self) -> ModelRecord:
        return ModelRecord(
            name=self.definition.name,
            state=self.state,
            capabilities=self._capabilities,
            context_size=self._context_size,
            size_bytes=self.definition.size_bytes,
            sha256=self.sha256,
            slots=self._slots_total,
            reason=self.reason,
        )

    def load(self) -> Load:
        return Load(
            self._slots_total,
            self._engine.slots_busy if self._engine else 0,
            self._waiting,
            self.speeds.prefill,
            self.speeds.decode,
            is_loaded=self.state == "loaded",
        )

    def want(self) -> None:
        """Load it, if that has not begun."""
        if self._engine is None and not self._problem:
            self._engine = self._make_engine(_engine_params(self.definition, self._slots), self._on_change)
            self._wanted.set()
            self._on_change()

    async def ready(self, *, needs_slot: bool = True) -> Engine:
        """Its engine, once it takes requests.

        Raises:
          Refused: it has failed, its slots are taken where one is needed, or too many wait for it already.
        """
        self.want()
        if self._engine is None or self._problem:
            raise Refused("model_failed", self.reason)
        if self._waiting >= _WAITING_MAX:
            raise Refused(
                "loading", f"{self.definition.name} is loading and {self._waiting} requests wait for it"
            )
        self._waiting += 1
        try:
            await self._engine.wait_ready()
        except EngineUnavailable as error:
            raise Refused("model_failed", str(error)) from error
        finally:
            self._waiting -= 1
        # The engine says so too, but only once a prompt was made: too late where many ask at once.
        if needs_slot and self._engine.slots_busy >= self._slots:
            raise Refused("busy", f"all {self._slots} slots are taken", load=self.load())
        return self._engine

    async def run(self) -> None:
        """Hash its file, and run its engine once it is wanted, until `stop` or cancelled."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._identify)
                    await self._wanted.wait()
                    assert self._engine is not None
                    await self._engine.run()
        finally:
            self._ended.set()

    def stop(self) -> None:
        """End its engine; the answers that are using it fail."""
        self._life.cancel()

    async def wait_ended(self) -> None:
        """Wait until `run` has ended, and nothing of ours holds its file."""
        await self._ended.wait()

    @property
    def _slots_total(self) -> int:
        """Those it will have count too: a cold model is loaded when it is asked for, a failed one is not."""
        return 0 if self.state == "failed" else self._slots

    @property
    def _capabilities(self) -> tuple[Capability, ...]:
        return self.facts.capabilities if self.facts else _CAPABILITIES

    @property
    def _context_size(self) -> int:
        return self.facts.context_size if self.facts else 0

    async def _identify(self) -> None:
        if self._problem:
            return
        if self._engine is not None:
            with suppress(EngineUnavailable):
                await self._engine.wait_ready()
        definition = self.definition
        try:
            sha256 = await self._hasher.sha256(definition.path)
        except ModelError as error:
            logger.warning("a model's file has no hash: model=%s error=%s", definition.name, error)
            return
        if definition.expected_sha256 not in {"", sha256}:
            self._problem = f"{definition.path} is damaged: its sha256 is {sha256}"
            self.stop()
        self.sha256 = sha256
        self._on_change()


def _engine_params(definition: ModelDefinition, slots: int) -> EngineParams:
    settings = definition.settings
    return EngineParams(
        path=str(definition.path),
        context_size=settings.context_size or 0,
        slots=slots,
        threads=settings.threads or 0,
        gpu_layers=-1 if settings.gpu_layers is None else settings.gpu_layers,
        mmap=settings.mmap is not False,
        mlock=settings.mlock is True,
        cache_type="f32" if settings.f16 is False else "f16",
    )
