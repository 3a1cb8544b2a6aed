"""Supervisor: what to do when an engine process ends, and what to call the state it is in.

                +-------------- ProcessExited, not too often ---------------+
                v                                                          |
    starting --Loaded--> (self-test) --SelfTestPassed--> ready --ProcessExited--> restarting
        |                     |                            ^               |
        +----- LoadFailed ----+---> failed <-----------------ProcessExited too often
                                       |                   |
                                       +-- a long pause ---+

A file that cannot be loaded will not load the next time either, so that is final at
once, as is a model that needed more memory than it may have, and then again. A crash is
tried again, later each time. Several with nothing answered between them are a failed
model, which is tried again after a long pause: what hung a driver or filled the memory
may be gone. Adding the model again, or starting the node again, does not wait for that.

A death in the self-test has a known cause (repacked weights on a machine that hides
AMX) with a known remedy, tried once and without delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

EngineState: TypeAlias = Literal["starting", "ready", "restarting", "failed"]

EndedBecause: TypeAlias = Literal["crashed", "stuck", "too_large"]
"""By itself, or killed: it was not heard of, or took more memory than it may."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is in memory; its self-test begins."""


@dataclass(frozen=True, slots=True)
class SelfTestPassed:
    """It takes requests."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The child says it cannot run this model; it will exit by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class AnswerFinished:
    """A generation came to its end."""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The child is gone."""

    how: str
    """For a person: "was ended by SIGSEGV"."""
    because: EndedBecause = "crashed"


@dataclass(frozen=True, slots=True)
class Stopped:
    """The engine is not wanted any more."""


Event: TypeAlias = Loaded | SelfTestPassed | LoadFailed | AnswerFinished | ProcessExited | Stopped


@dataclass(frozen=True, slots=True)
class StartProcess:
    """Start a child after `delay` seconds."""

    delay: float
    use_extra_bufts: bool


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """When to give up."""

    crashes_max: int = 3
    """At that many, with no answer finished between them, it has failed. Two may be bad luck."""
    too_large_max: int = 2
    """The same where memory was the reason for the latest: it will not need less."""
    window: float = 60.0
    """Seconds for which it must have been ready before a crash, for those before it to be forgiven. A
    crash a minute still serves most requests. Time to load does not count, which may be longer."""
    delay_first: float = 0.2
    """Seconds before the first restart: requests are being sent elsewhere meanwhile."""
    delay_factor: float = 5.0
    """Each further crash waits that much longer: 0.2 s, 1 s."""
    delay_failed: float = 600.0
    """Seconds until a failed one is tried once more. A model that fills the memory, or freezes the screen
    while it crashes, may do so six times an hour and no oftener."""

    def __post_init__(self) -> None:
        assert 1 <= self.too_large_max <= self.crashes_max
        assert self.delay_first * self.delay_factor ** (self.crashes_max - 1) < self.delay_failed


@dataclass(slots=True)
class Supervisor:
    """The life of one engine. Reads no clock, starts nothing."""

    config: RestartConfig
    use_extra_bufts: bool = True
    state: EngineState = "starting"
    reason: str = ""
    """Why it is not ready, for a person."""
    is_final: bool = False
    """It has failed and is not tried again."""
    _is_in_self_test: bool = False
    _ready_at: float = 0.0
    """When it was ready last."""
    _crashes: int = 0
    """Since the last finished answer."""

    def start(self) -> StartProcess:
        """The first order."""
        return StartProcess(0.0, self.use_extra_bufts)

    def handle(self, event: Event, now: float) -> StartProcess | None:
        """Take in what happened; returns what to do about it, if anything."""
        match event:
            case Loaded():
                self._is_in_self_test = True
            case SelfTestPassed():
                self._is_in_self_test = False
                self._ready_at = now
                self.state, self.reason = "ready", ""
            case LoadFailed(reason):
                self._fail(reason)
            case AnswerFinished():
                self._crashes = 0
            case ProcessExited():
                return self._on_exit(event, now)
            case Stopped():
                self._fail("the engine was stopped")
        return None

    def _fail(self, reason: str) -> None:
        self.state, self.reason, self.is_final = "failed", reason, True

    def _on_exit(self, event: ProcessExited, now: float) -> StartProcess | None:
        died_in_self_test, self._is_in_self_test = self._is_in_self_test, False
        if self.is_final:
            return None
        reason = f"the engine {event.how}"
        if died_in_self_test and self.use_extra_bufts and event.because != "too_large":
            self.reason = reason
            self.use_extra_bufts = False
            return self.start()
        if self.state == "ready" and event.because != "stuck" and now - self._ready_at >= self.config.window:
            self._crashes = 0
        self._crashes += 1
        if event.because == "too_large" and self._crashes >= self.config.too_large_max:
            self._fail(f"{reason}, {self._crashes} times in a row")
            return None
        if self._crashes >= self.config.crashes_max:
            self.state = "failed"
            self.reason = f"{reason}, {self._crashes} times in a row"
            return StartProcess(self.config.delay_failed, self.use_extra_bufts)
        self.state, self.reason = "restarting", reason
        delay = self.config.delay_first * self.config.delay_factor ** (self._crashes - 1)
        return StartProcess(delay, self.use_extra_bufts)
