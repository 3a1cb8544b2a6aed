"""An engine that only counts: what a batching engine takes for prompts and tokens, as events.

One step carries a token of each answer that is decoding, and takes `alone + each * answers`
seconds; prompts are read in between, for at most twice that while others stream (as
`node/engine/scheduler.py` does). Nobody waits but in front of its slots, if it is made to queue.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from federation.backend import Done, Timings, Usage
from ledger.records import Load
from node.speeds import Speeds

ALONE, EACH = 0.0193, 0.00455
"""Seconds: a step of a 270M model on two cores takes 24, 37 and 92 ms with 1, 4 and 16 answers."""
PREFILL = 400.0
"""Tokens of prompts per second of the same machine."""
_READING_SHARE = 2.0
_STEP_ALONE = 0.4


@dataclass(frozen=True)
class EngineSpeed:
    """Of one machine: `times` as fast as the one above."""

    times: float = 1.0

    def step(self, answers: int) -> float:
        return (ALONE + EACH * answers) / self.times

    @property
    def prefill(self) -> float:
        return PREFILL * self.times


@dataclass(eq=False)
class Running:
    """One request in an engine."""

    prompt: tuple[int, ...]
    """Marks of 64 tokens each: what two prompts have in common they share from the start."""
    prompt_tokens: int
    answer_tokens: int
    arrived_at: float
    started_at: float = 0.0
    first_at: float | None = None
    cached: int = 0
    unread: float = 0.0
    generated: int = 0
    read_seconds: float = 0.0


@dataclass
class StubEngine:
    """Advanced by whoever keeps the time: `step_at` says when the next step ends."""

    speed: EngineSpeed
    slots: int = 4
    kept_max: int = 8
    """Prompts whose beginning is still there."""
    running: list[Running] = field(default_factory=list)
    waiting: deque[Running] = field(default_factory=deque)
    speeds: Speeds = field(default_factory=Speeds)
    hangs: bool = False
    step_at: float | None = None
    read_tokens: float = 0.0
    """Of all prompts so far."""
    _kept: OrderedDict[tuple[int, ...], None] = field(default_factory=OrderedDict)
    _step: tuple[list[Running], dict[int, float], float] | None = None

    @property
    def is_full(self) -> bool:
        return len(self.running) >= self.slots

    def load(self) -> Load:
        return Load(
            self.slots,
            len(self.running),
            len(self.waiting),
            self.speeds.prefill,
            self.speeds.decode,
            is_loaded=True,
        )

    def take(self, request: Running, now: float) -> None:
        """Begin `request`, or let it wait for a slot."""
        if self.is_full:
            self.waiting.append(request)
            return
        request.started_at = now
        request.cached = min(self._in_common(request.prompt) * 64, request.prompt_tokens - 1)
        request.unread = request.prompt_tokens - request.cached
        self.running.append(request)
        if self.step_at is None:
            self._begin_step(now)

    def drop(self, request: Running, now: float) -> None:
        """Nobody wants it any more."""
        if request in self.running:
            self.running.remove(request)
            self._let_in(now)
        elif request in self.waiting:
            self.waiting.remove(request)

    def end_step(self, now: float) -> list[tuple[Running, bool]]:
        """Each request that got a token, and whether that was its last."""
        assert self._step is not None
        decoding, reading, seconds = self._step
        told: list[tuple[Running, bool]] = []
        for request in list(self.running):
            if request in decoding:
                request.generated += 1
                told.append((request, request.generated >= request.answer_tokens))
            elif (part := reading.get(id(request), 0.0)) > 0:
                request.unread -= part
                request.read_seconds += seconds
                self.read_tokens += part
                if request.unread < 0.5:
                    # The end of the prompt brings the first token.
                    request.first_at, request.generated = now, 1
                    self._keep(request.prompt)
                    told.append((request, request.generated >= request.answer_tokens))
        for request, is_last in told:
            if is_last:
                self.running.remove(request)
        self._let_in(now)
        self._begin_step(now)
        return told

    def done(self, request: Running, now: float) -> Done:
        """What the end of `request` says."""
        assert request.first_at is not None
        done = Done(
            ("stop",),
            Usage(request.prompt_tokens, request.answer_tokens, request.cached),
            Timings(request.started_at - request.arrived_at, request.read_seconds, now - request.first_at),
            self.load(),
        )
        self.speeds.answered(done, now - request.first_at)
        return done

    def _let_in(self, now: float) -> None:
        while self.waiting and not self.is_full:
            self.take(self.waiting.popleft(), now)

    def _begin_step(self, now: float) -> None:
        if self.hangs or not self.running:
            self.step_at, self._step = None, None
            return
        decoding = [request for request in self.running if request.first_at is not None]
        unread = [request for request in self.running if request.first_at is None]
        seconds = self.speed.step(len(decoding)) if decoding else 0.0
        allowed = _READING_SHARE * seconds if decoding else _STEP_ALONE
        reading: dict[int, float] = {}
        left = allowed * self.speed.prefill
        for count, request in enumerate(sorted(unread, key=lambda each: each.unread)):
            part = min(request.unread, left / (len(unread) - count))
            reading[id(request)] = part
            left -= part
        seconds += sum(reading.values()) / self.speed.prefill
        self._step = (decoding, reading, seconds)
        self.step_at = now + seconds

    def _in_common(self, prompt: tuple[int, ...]) -> int:
        best = 0
        for kept in self._kept:
            same = 0
            for ours, theirs in zip(prompt, kept, strict=False):
                if ours != theirs:
                    break
                same += 1
            best = max(best, same)
        return best

    def _keep(self, prompt: tuple[int, ...]) -> None:
        self._kept[prompt] = None
        self._kept.move_to_end(prompt)
        if len(self._kept) > self.kept_max:
            self._kept.popitem(last=False)
