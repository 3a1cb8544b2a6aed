"""Supervisor: what to do when an engine process ends, and what to call the state it is in.

                +-------------- ProcessExited, not too often ---------------+
                v                                                          |
    starting --Loaded--> (self-test) --SelfTestPassed--> ready --ProcessExited--> restarting
        |                     |                                            |
        +----- LoadFailed ----+---> failed <------ ProcessExited too often +

A file that cannot be loaded will not load the next time either, so that is final at
once. A crash is tried again, later each time, and is final when nothing was answered
between several. A death in the self-test has a known cause (repacked weights on a
machine that hides AMX) with a known remedy, tried once and without delay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

EngineState: TypeAlias = Literal["starting", "ready", "restarting", "failed"]


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
    """That many within `window`, and no answer finished between them: it fails. Two may be bad luck."""
    window: float = 60.0
    """Seconds. A crash a minute still serves most requests."""
    delay_first: float = 0.2
    """Seconds before the first restart: requests are being sent elsewhere meanwhile."""
    delay_factor: float = 5.0
    """Each further crash waits that much longer: 0.2 s, 1 s."""

    def __post_init__(self) -> None:
        assert self.crashes_max >= 1
        assert self.delay_first * self.delay_factor ** (self.crashes_max - 1) < self.window


@dataclass(slots=True)
class Supervisor:
    """The life of one engine. Reads no clock, starts nothing."""

    config: RestartConfig
    use_extra_bufts: bool = True
    state: EngineState = "starting"
    reason: str = ""
    """Why it is not ready, for a person."""
    _is_in_self_test: bool = False
    _crashes: list[float] = field(default_factory=list)
    """When it crashed, since the last finished answer."""

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
                self.state, self.reason = "ready", ""
            case LoadFailed(reason):
                self.state, self.reason = "failed", reason
            case AnswerFinished():
                self._crashes.clear()
            case ProcessExited(how):
                return self._on_exit(how, now)
            case Stopped():
                self.state, self.reason = "failed", "the engine was stopped"
        return None

    def _on_exit(self, how: str, now: float) -> StartProcess | None:
        died_in_self_test, self._is_in_self_test = self._is_in_self_test, False
        if self.state == "failed":
            return None
        self.reason = f"the engine {how}"
        if died_in_self_test and self.use_extra_bufts:
            self.use_extra_bufts = False
            return self.start()
        self._crashes = [at for at in self._crashes if now - at < self.config.window] + [now]
        crashes = len(self._crashes)
        if crashes >= self.config.crashes_max:
            self.state = "failed"
            self.reason += f", {crashes} times in a row"
            return None
        self.state = "restarting"
        delay = self.config.delay_first * self.config.delay_factor ** (crashes - 1)
        return StartProcess(delay, self.use_extra_bufts)
