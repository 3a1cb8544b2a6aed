"""One model of this node, from cold file to running engine, and back.

    cold --start--> loading --> loaded --end_engine--> cold
                      |
                      +------> failed         with a reason, as is a file with a problem

Loading again after each crash. When it starts and ends `resident_models.py` decides. Its file is
hashed in the background, after a load that is under way: both read all of it, and the second
finds it in memory. From then on peers may have it, until somebody writes to it: then it is hashed
anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import trio

from federation.backend import ModelInfo
from federation.errors import Refused
from ledger.records import Capability, Load, ModelRecord, ModelState
from node.engine.build import free_device_bytes
from node.engine.engine import Engine
from node.engine.errors import EngineUnavailable
from node.engine.wire import EngineParams, ModelFacts
from node.identification import Identification
from node.jobs.job import Job, JobId, JobKind
from node.models.definition import ModelDefinition
from node.models.gguf_header import BadHeader, read_gguf_headers
from node.models.memory_estimate import estimate_memory
from node.resident_models import CannotLoad, ResidentModels
from node.speeds import Speeds
from node.store.store import Store

logger = logging.getLogger(__name__)

_CAPABILITIES: tuple[Capability, ...] = ("chat", "completion")
"""Of most models; of others we know once they were loaded."""

_WAITING_MAX = 64
"""Requests that wait for a model to load. Slots are few: of more, most would only wait to be refused."""

MakeEngine: TypeAlias = Callable[[EngineParams, Callable[[], None]], Engine]
"""An engine for these parameters that calls back when its state changed."""


EstimateMemory: TypeAlias = Callable[[ModelDefinition, EngineParams], Awaitable[int]]
"""What memory a model's engine will take, in bytes."""

_one_reader = trio.CapacityLimiter(1)
"""Of headers: a folder full of models is looked into without keeping all cores from answering."""


async def estimate_from_header(definition: ModelDefinition, params: EngineParams) -> int:
    """Of the machine's memory, as its file's header and the devices' free memory say; guessed from the
    file's size where the header cannot be read."""
    free_bytes = await trio.to_thread.run_sync(free_device_bytes, limiter=_one_reader)
    try:
        header = await trio.to_thread.run_sync(read_gguf_headers, definition.parts, limiter=_one_reader)
    except (BadHeader, OSError) as error:
        # Its engine will say what is wrong with it, if it cannot read it either.
        logger.debug("no estimate for a model: model=%s error=%s", definition.name, error)
        header = None
    return estimate_memory(header, definition.size_bytes, params, free_bytes).total


def make_engine(params: EngineParams, on_change: Callable[[], None], *, memory_max: int = 0) -> Engine:
    """A real engine, which may take `memory_max` bytes; 0: as many as there are."""
    return Engine(replace(params, memory_max=memory_max), on_change=on_change)


class ServedModel:
    """One model of a worker. One task `run`s it."""

    def __init__(
        self,
        definition: ModelDefinition,
        params: EngineParams,
        *,
        residents: ResidentModels,
        store: Store,
        on_change: Callable[[], None],
        make_engine: MakeEngine,
        estimate: EstimateMemory,
        is_pinned: bool = False,
    ) -> None:
        self.definition = definition
        self.speeds = Speeds()
        """As its answers showed; kept over restarts of its engine."""
        self.facts: ModelFacts | None = None
        """Known once it was loaded."""
        self.is_pinned = is_pinned
        self._params = params
        self._slots = params.slots
        self._residents = residents
        self._on_change = on_change
        self.files = Identification(store, definition, self._note_files)
        """What they are, to the byte."""
        self._make_engine = make_engine
        self._estimate = estimate
        self._estimated = 0
        self._engine: Engine | None = None
        self._engine_life = trio.CancelScope()
        self._started = trio.Event()
        self._engine_ended = trio.Event()
        self._pid: int | None = None
        self._processes = 0
        """That its engine has had; all but the first are restarts."""
        self._waiting = 0
        self._problem = definition.problem
        """With its file: lasts as long as this object."""
        self._refusal = ""
        """Why there is no memory for it, until a person gives it another chance."""
        self._life = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def state(self) -> ModelState:
        if self._problem or self._refusal:
            return "failed"
        if self._engine is None or self._engine_life.cancel_called:
            return "cold"
        match self._engine.state:
            case "ready":
                return "loaded"
            case "failed":
                return "failed"
            case "starting" | "restarting":
                return "loading"

    @property
    def sha256(self) -> str:
        """Of its weights; empty until they are hashed."""
        return self.files.sha256

    @property
    def can_chat(self) -> bool:
        """It is loaded, for chats among others, and there is a template for them."""
        facts = self.facts
        if self.state != "loaded" or facts is None or "chat" not in facts.capabilities:
            return False
        return bool(self.definition.settings.chat_template or facts.chat_template)

    @property
    def reason(self) -> str:
        """Why it does not run, for a person."""
        of_engine = self._engine.reason if self._engine and self.state != "cold" else ""
        return self._problem or self._refusal or of_engine

    @property
    def is_ready(self) -> bool:
        """Its engine takes requests."""
        return self.state == "loaded"

    @property
    def has_engine(self) -> bool:
        """Also one that has given up."""
        return self._engine is not None

    @property
    def failure(self) -> str:
        """Why it takes no memory and cannot be loaded; empty: it does, or can."""
        if self._engine is None:
            removed = "it is not served any more" if self._life.cancel_called else ""
            return self._problem or self._refusal or removed
        # One that crashed too often is tried again later, and has its place until somebody else needs it.
        is_ending = self._engine_life.cancel_called or self._life.cancel_called
        has_failed = self._engine.has_given_up and not is_ending
        return (self._engine.reason or "its engine has ended") if has_failed else ""

    @property
    def loaded_fraction(self) -> float:
        """Of its weights, 0 to 1."""
        return self._engine.loaded_fraction if self._engine else 0.0

    @property
    def memory_bytes(self) -> int:
        """Of its engine, measured; 0 while there is none."""
        return self._engine.memory_bytes if self._engine else 0

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
            manifest=self.files.manifest_id,
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

    def jobs(self) -> Sequence[Job]:
        """What takes a while and is being done with its files."""
        jobs = []
        if self.state == "loading":
            jobs.append(self._job("load", "loading", self.loaded_fraction * self.definition.size_bytes))
        if self.files.is_hashing:
            jobs.append(self._job("hash", "hashing", self.files.hashed_bytes))
        return jobs

    def _job(self, kind: JobKind, step: str, done_bytes: float) -> Job:
        return Job(
            JobId(f"{kind}-{self.name}"),
            kind,
            self.name,
            state="running",
            step=step,
            size_bytes=self.definition.size_bytes,
            done_bytes=min(round(done_bytes), self.definition.size_bytes),
        )

    def monitor(self) -> dict[str, Any]:
        """One row of `/backend/monitor`."""
        load, idle_since = self.load(), self._residents.idle_since(self)
        keep_alive = self._residents.keep_alive
        return {
            "model": self.definition.name,
            "state": self.state,
            "reason": self.reason,
            "pid": self._engine.pid if self._engine else None,
            "memory_bytes": self.memory_bytes,
            "estimated_bytes": self._estimated,
            "loaded_fraction": round(self.loaded_fraction, 3),
            "slots_total": load.slots_total,
            "slots_busy": load.slots_busy,
            "waiting": load.queued,
            "idle_s": None if idle_since is None else round(trio.current_time() - idle_since, 3),
            "keep_alive_s": None if self.is_pinned or math.isinf(keep_alive) else keep_alive,
            "pinned": self.is_pinned,
            "restarts": max(self._processes - 1, 0),
        }

    async def estimate_bytes(self) -> int:
        """What it will take, from its file's header; read once."""
        self._estimated = self._estimated or await self._estimate(self.definition, self._params)
        return self._estimated

    def start(self) -> None:
        """Start its engine, which `run` runs."""
        assert self._engine is None, "one at a time: both would not fit"
        self._engine = self._make_engine(self._params, self._note_engine)
        self._engine_life, self._engine_ended = trio.CancelScope(), trio.Event()
        self._processes = 0
        self._started.set()
        self._on_change()

    def end_engine(self) -> None:
        """Back to cold, unless its file has a problem; an answer that is using it fails."""
        self._refusal = ""
        self._engine_life.cancel()
        self._on_change()

    async def wait_engine_ended(self) -> None:
        """Wait until the engine that runs now, if one does, is gone."""
        if self._engine is not None:
            await self._engine_ended.wait()

    def give_up(self, reason: str) -> None:
        """It cannot be loaded, until `end_engine` is called once more."""
        self._refusal = reason
        self._on_change()

    @asynccontextmanager
    async def use(self, *, needs_slot: bool = True) -> AsyncIterator[Engine]:
        """Its engine, which stays as long as this is held. Entering waits for memory, and while it loads.

        Raises:
          Refused: it has failed, its slots are taken where one is needed, or too many wait for it already.
        """
        if self.state == "failed":
            raise Refused("model_failed", self.reason)
        if self._waiting >= _WAITING_MAX:
            raise Refused(
                "loading", f"{self.definition.name} is loading and {self._waiting} requests wait for it"
            )
        async with AsyncExitStack() as stack:
            self._waiting += 1
            try:
                await stack.enter_async_context(self._residents.hold(self))
                if self._engine is None:
                    raise Refused("model_failed", self.reason or "its engine has just ended")
                engine = self._engine
                await engine.wait_ready()
            except (EngineUnavailable, CannotLoad) as error:
                raise Refused("model_failed", str(error)) from error
            finally:
                self._waiting -= 1
            # The engine says so too, but only once a prompt was made: too late where many ask at once.
            if needs_slot and engine.slots_busy >= self._slots:
                raise Refused("busy", f"all {self._slots} slots are taken", load=self.load())
            yield engine

    async def run(self) -> None:
        """Know its files, and run its engines, until `stop` or cancelled."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._identify)
                    while True:
                        await self._started.wait()
                        await self._run_engine()
        finally:
            self._drop_engine()
            self._ended.set()

    async def _run_engine(self) -> None:
        engine = self._engine
        assert engine is not None
        with self._engine_life:
            await engine.run()
        self._drop_engine()

    def _drop_engine(self) -> None:
        self._engine, self._started = None, trio.Event()
        self._engine_ended.set()
        self._on_change()

    def _note_engine(self) -> None:
        engine = self._engine
        if engine is not None:
            self.facts = engine.facts or self.facts
            if engine.pid not in (None, self._pid):
                self._pid = engine.pid
                self._processes += 1
        self._on_change()

    def stop(self) -> None:
        """End its engine for good; the answers that are using it fail, and who waits for it is refused."""
        self._life.cancel()
        self._on_change()

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
        if not self._problem:
            await self.files.run(self._wait_until_loaded)

    async def _wait_until_loaded(self) -> None:
        if self._engine is not None:
            with suppress(EngineUnavailable):
                await self._engine.wait_ready()

    def _note_files(self) -> None:
        expected = self.definition.expected_sha256
        if self.sha256 and expected not in {"", self.sha256}:
            self._problem = f"{self.definition.path} is damaged: its sha256 is {self.sha256}"
            self.stop()
        self._on_change()
