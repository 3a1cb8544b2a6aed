"""Watchdog: whether an engine has to be ended, because it is stuck or takes too much memory.

    Heard(message)           what it says of itself, not of what it generates
    Ticked(work, memory)     once a second  -->  Ask, End, or nothing

Silence alone says little: an engine whose readers are slow waits for them without a word. So one
that has work is asked for a sign of life (Ping), which it owes between any two steps whatever its
generations wait for. While it starts it cannot be asked, and has to report by itself.

Reads no clock, and trusts none blindly: where this process itself was stopped, or the machine
slept, the engine had no chance to be heard. Only time that was watched counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from node.engine.memory import in_gib
from node.engine.supervisor import EndedBecause
from node.engine.wire import FromChild, Loaded, Pong, Ready


@dataclass(frozen=True, slots=True)
class Heard:
    """The engine said something."""

    message: FromChild


@dataclass(frozen=True, slots=True)
class Ticked:
    """A second is over."""

    has_work: bool
    """Something was asked of it that it has not finished."""
    memory_bytes: int
    """As `memory.needed_bytes` measures it."""


Event: TypeAlias = Heard | Ticked


@dataclass(frozen=True, slots=True)
class Ask:
    """Send it a Ping."""


@dataclass(frozen=True, slots=True)
class End:
    """Kill it."""

    how: str
    """For a person, after "the engine ": "was stuck: ..."."""
    because: EndedBecause


@dataclass(frozen=True, slots=True)
class WatchdogConfig:
    """How long an engine may be silent, in seconds."""

    interval: float = 1.0
    """Between two ticks. A look takes 0.05 ms."""
    starting: float = 300.0
    """While it loads and tests itself: a disk wakes up, a virus scanner reads along, the driver of a GPU
    compiles for minutes when it is first used."""
    starting_speed: float = 10e6
    """Bytes a second. Mapped weights are read by the self-test, perhaps over a network of 100 Mbit/s."""
    working: float = 60.0
    """While it owes an answer, which it does for a step, of 0.4 s mostly, or for a grammar, of 3 s at most.
    Where ten programs wanted two cores the longest took 6 s, and a machine that swaps is slower yet.
    Clients wait that long for a rare thing: a healthy engine that is ended loses all its answers, and
    loads again on a machine that is too slow already."""
    working_speed: float = 100e6
    """Bytes a second. Weights that memory had no room for are read again within a step, from a hard disk."""
    steps: float = 3.0
    """It may take that many times as long as its longest step: other programs use the machine too."""


@dataclass(slots=True)
class Watchdog:
    """What is known of one engine process."""

    config: WatchdogConfig
    memory_max: int = 0
    """Bytes; 0: as much as there is."""
    _is_ready: bool = False
    _owes_answer: bool = False
    _size_bytes: int = 0
    """Of the model's file."""
    _silence_max: float = field(init=False)
    _silence: float = 0.0
    """Seconds that were watched since it said something, or was asked to."""
    _ticked_at: float | None = None

    def __post_init__(self) -> None:
        self._silence_max = self.config.starting

    def handle(self, event: Event, now: float) -> Ask | End | None:
        """Take in what happened; returns what to do about it, if anything."""
        match event:
            case Heard(message):
                self._hear(message)
                return None
            case Ticked():
                return self._tick(event, now)

    def _hear(self, message: FromChild) -> None:
        self._silence = 0.0
        match message:
            case Loaded():
                self._size_bytes = message.size_bytes
                self._silence_max += self._size_bytes / self.config.starting_speed
            case Ready(step_seconds):
                self._is_ready = True
                self._silence_max = (
                    max(self.config.working, self.config.steps * step_seconds)
                    + self._size_bytes / self.config.working_speed
                )
            case Pong():
                self._owes_answer = False
            case _:
                pass

    def _tick(self, tick: Ticked, now: float) -> Ask | End | None:
        since = 0.0 if self._ticked_at is None else now - self._ticked_at
        self._ticked_at = now
        if 0 < self.memory_max < tick.memory_bytes:
            return End(f"needed more memory than {in_gib(self.memory_max)} (--engine-memory)", "too_large")
        if not self._is_ready or self._owes_answer:
            # Whoever was late by more than a tick did not watch meanwhile.
            self._silence += min(since, 2 * self.config.interval)
            if self._silence < self._silence_max:
                return None
            doing = "had work" if self._is_ready else "was starting"
            return End(f"was stuck: it said nothing for {self._silence:.0f} s while it {doing}", "stuck")
        if not tick.has_work:
            return None
        self._owes_answer, self._silence = True, 0.0
        return Ask()
