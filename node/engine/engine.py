"""Engine: one model, running in a process of its own that is kept alive.

    engine = Engine(EngineParams("model.gguf"))
    await nursery.start(engine.run)
    await engine.wait_ready()
    async with engine.generate(request) as generation:      # takes a slot, or raises EngineBusy
        async for event in generation.events: ...           # Chunk*, Progress*, then Done

`supervisor.py` decides when the process is started again, `process.py` runs it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from node.engine import supervisor
from node.engine.errors import EngineBusy, EngineUnavailable, PromptRefused
from node.engine.generation import Generation
from node.engine.process import Ended, EngineProcess, LifeEvent
from node.engine.request_size import require_short
from node.engine.supervisor import EngineState, RestartConfig, StartProcess, Supervisor
from node.engine.watchdog import WatchdogConfig
from node.engine.wire import (
    EngineParams,
    EngineRequest,
    Finished,
    Loaded,
    LoadFailed,
    Loading,
    ModelFacts,
    Ready,
    slots_of,
)

logger = logging.getLogger(__name__)

# -P: a folder that happens to be named like one of ours, where the node was started, is not imported.
COMMAND = (sys.executable, "-P", "-m", "node.engine.child")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine is run."""

    command: tuple[str, ...] = COMMAND
    restart: RestartConfig = field(default_factory=RestartConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)


def _ignore_change() -> None:
    pass


class Engine:
    """One model in a process of its own. One task `run`s it."""

    def __init__(
        self,
        params: EngineParams,
        config: EngineConfig | None = None,
        on_change: Callable[[], None] = _ignore_change,
    ) -> None:
        """`on_change` is called whenever `state`, `facts` or `loaded_fraction` changed; it must not raise."""
        self.params = params
        self.facts: ModelFacts | None = None
        """Known once the model was loaded, and kept over restarts."""
        self.loaded_fraction = 0.0
        """Of the weights, 0 to 1, by the process that loads or runs them; 0 while there is none."""
        self._config = config or EngineConfig()
        self._on_change = on_change
        self._supervisor = Supervisor(self._config.restart, params.use_extra_bufts)
        self._process: EngineProcess | None = None
        self._next: StartProcess | None = self._supervisor.start()
        """What to do when no process runs. None: nothing, it has failed."""
        self._changed = trio.Event()

    @property
    def state(self) -> EngineState:
        """Whether it takes requests."""
        return self._supervisor.state

    @property
    def reason(self) -> str:
        """Why it is not ready, for a person; empty while it starts for the first time."""
        return self._supervisor.reason

    @property
    def has_given_up(self) -> bool:
        """It has failed for good: no process will be started any more."""
        return self._supervisor.is_final

    @property
    def slots_busy(self) -> int:
        """Of `params.slots`."""
        return self._process.slots_busy if self._process else 0

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        return self._process.pid if self._process else None

    @property
    def memory_bytes(self) -> int:
        """Resident, of its process; 0 while there is none."""
        return self._process.memory_bytes if self._process else 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it running until cancelled. Then its process is gone, and its generations have failed."""
        task_status.started()
        try:
            while self._next is not None:
                await self._run_process(self._next)
            await trio.sleep_forever()
        finally:
            self.loaded_fraction = 0.0
            self._handle(supervisor.Stopped())

    async def _run_process(self, order: StartProcess) -> None:
        await trio.sleep(order.delay)
        params = replace(self.params, use_extra_bufts=order.use_extra_bufts)
        self._process = EngineProcess(self._config.command, params, self._on_event, self._config.watchdog)
        try:
            await self._process.run()
        except OSError as error:
            self._on_event(Ended(f"could not be started: {error}"))
        finally:
            self._process = None

    def _on_event(self, event: LifeEvent) -> None:
        match event:
            case Loading(fraction):
                self.loaded_fraction = fraction
                self._on_change()
            case Loaded(facts):
                self.facts, self.loaded_fraction = facts, 1.0
                self._handle(supervisor.Loaded())
            case Ready():
                self._handle(supervisor.SelfTestPassed())
            case LoadFailed(reason):
                logger.warning("engine for %s cannot load it: %s", self.params.path, reason)
                self._handle(supervisor.LoadFailed(reason))
            case Finished():
                self._handle(supervisor.AnswerFinished())
            case Ended(how, because):
                logger.warning("engine for %s %s", self.params.path, how)
                self.loaded_fraction = 0.0
                self._next = self._handle(supervisor.ProcessExited(how, because))

    def _handle(self, event: supervisor.Event) -> StartProcess | None:
        before = (self.state, self.reason)
        order = self._supervisor.handle(event, trio.current_time())
        tells_more = isinstance(event, supervisor.Loaded | supervisor.ProcessExited)
        if (self.state, self.reason) != before or tells_more:
            self._changed.set()
            self._changed = trio.Event()
            self._on_change()
        return order

    async def wait_ready(self) -> None:
        """Wait while it starts or restarts.

        Raises:
          EngineUnavailable: it has failed; the text says why.
        """
        while self.state != "ready":
            if self.state == "failed":
                raise EngineUnavailable(self.reason)
            await self._changed.wait()

    @asynccontextmanager
    async def generate(self, request: EngineRequest) -> AsyncIterator[Generation]:
        """Run `request`; entering waits until its prompt is accepted. Leaving early cancels it.

        Left in any way, the slot is free at once.

        Raises:
          EngineUnavailable: it is not ready.
          EngineBusy: not enough slots are free.
          PromptRefused: this model cannot serve it.
          EngineFailed: the process ended. Later it is raised by `events`.
        """
        if self.state != "ready" or self._process is None:
            raise EngineUnavailable(self.reason or "the model is loading")
        slots = slots_of(request)
        if slots > self.params.slots:
            raise PromptRefused(
                f"{slots} choices need as many slots; there are {self.params.slots}", param="n"
            )
        if self.slots_busy + slots > self.params.slots:
            raise EngineBusy(f"{self.slots_busy} of {self.params.slots} slots are taken")
        assert self.facts is not None, "an engine that is ready knows its model"
        require_short(request, self.facts)
        async with self._process.generate(request) as generation:
            yield generation
