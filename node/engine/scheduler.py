"""Scheduler: which tokens of which sequences go into the next batch.

    admit -> prefill (the prompt, in chunks) -> decode (a token a step) -> removed
                                                   ^    |
                                                   +----+ paused without credit

Every step carries one token of each sequence that is decoding, so that nobody's
stream stands still, and as much prompt as fits the time a step may take: the speed
of the steps before says how much that is. Prompts share a step evenly.

Knows neither tokens' meaning nor llama.cpp. Time comes in as measured durations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

BATCH_MAX = 512
"""Tokens in one step. llama.cpp's own size of one pass, past which the speed hardly rises."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens of one sequence in a batch."""

    id: int
    slot: int
    """The number of its sequence inside the engine: 0 and up, below `slots`."""
    position: int
    """Of the first token."""
    tokens: Sequence[int]
    wants_output: bool
    """After its last token, a new one is to be sampled."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How long one step may take."""

    slots: int
    step_alone: float = 0.4
    """Seconds while only prompts are read. Cancelling and progress wait for it; both are owed in a second."""
    step_shared: float = 0.1
    """Seconds while others stream: the gap they see. Guess: noticed as slower, not as stuck."""

    def __post_init__(self) -> None:
        assert 0 < self.slots < BATCH_MAX
        assert 0 < self.step_shared <= self.step_alone < 1.0


@dataclass(slots=True)
class _Sequence:
    id: int
    slot: int
    prompt: Sequence[int]
    credit: int
    decoded: int = 0
    """Tokens that are in the context."""
    latest: int | None = None
    """Sampled, and not yet in the context."""

    @property
    def unread(self) -> int:
        return max(0, len(self.prompt) - self.decoded)


@dataclass(slots=True)
class Scheduler:
    """The sequences of one engine."""

    config: SchedulerConfig
    prefill_speed: float
    """Tokens per second; at first a careful guess, then what the steps show."""
    _sequences: dict[int, _Sequence] = field(default_factory=dict)

    def admit(self, sequence_id: int, prompt: Sequence[int], credit: int) -> int:
        """Give a sequence a slot, and return its number. There must be a free one."""
        assert prompt, "there must be something to decode"
        assert self.has_free_slot
        taken = {sequence.slot for sequence in self._sequences.values()}
        slot = next(slot for slot in range(self.config.slots) if slot not in taken)
        self._sequences[sequence_id] = _Sequence(sequence_id, slot, prompt, credit)
        return slot

    def remove(self, sequence_id: int) -> None:
        """Its slot is free from now on."""
        del self._sequences[sequence_id]

    def grant(self, sequence_id: int, credit: int) -> None:
        """Let it produce `credit` more tokens before it pauses."""
        self._sequences[sequence_id].credit += credit

    @property
    def has_free_slot(self) -> bool:
        return len(self._sequences) < self.config.slots

    @property
    def has_work(self) -> bool:
        """Whether `plan` would plan anything."""
        return any(sequence.credit > 0 for sequence in self._sequences.values())

    def plan(self) -> list[Span]:
        """The next batch. Empty if all sequences wait for credit."""
        awake = [sequence for sequence in self._sequences.values() if sequence.credit > 0]
        decoding = [
            Span(sequence.id, sequence.slot, sequence.decoded, (sequence.latest,), wants_output=True)
            for sequence in awake
            if sequence.latest is not None
        ]
        reading = [sequence for sequence in awake if sequence.unread]
        return decoding + self._plan_prefill(reading, is_shared=bool(decoding))

    def _plan_prefill(self, reading: list[_Sequence], *, is_shared: bool) -> list[Span]:
        budget = self._prefill_budget(is_shared=is_shared)
        spans = []
        # The shortest first: what it leaves of its share goes to the longer ones.
        for index, sequence in enumerate(sorted(reading, key=lambda each: each.unread)):
            waiting = len(reading) - index
            count = min(sequence.unread, -(-budget // waiting))
            if count == 0:
                break
            begin, end = sequence.decoded, sequence.decoded + count
            is_last = end == len(sequence.prompt)
            spans.append(Span(sequence.id, sequence.slot, begin, sequence.prompt[begin:end], is_last))
            budget -= count
        return spans

    def _prefill_budget(self, *, is_shared: bool) -> int:
        seconds = self.config.step_shared if is_shared else self.config.step_alone
        # Room is kept for one decoding token per slot.
        return max(1, min(int(self.prefill_speed * seconds), BATCH_MAX - self.config.slots))

    def carried_out(self, spans: Sequence[Span], seconds: float) -> None:
        """`spans`, as planned, are in the context; it took `seconds`."""
        is_shared = any(self._sequences[span.id].latest is not None for span in spans)
        prefilled = 0
        for span in spans:
            sequence = self._sequences[span.id]
            prefilled += min(sequence.unread, len(span.tokens))
            sequence.decoded += len(span.tokens)
            sequence.latest = None
        if prefilled:
            speed = prefilled / max(seconds, 1e-6)
            # Part of a step's time is the same however little it carries, so a small
            # prompt makes the engine look slow: only a full step may lower the speed.
            was_full = prefilled >= self._prefill_budget(is_shared=is_shared)
            self.prefill_speed = speed if was_full else max(self.prefill_speed, speed)

    def sampled(self, sequence_id: int, token: int) -> None:
        """`token` follows; it goes into the next batch if there is credit."""
        sequence = self._sequences[sequence_id]
        assert sequence.latest is None
        assert sequence.unread == 0
        sequence.latest = token
        sequence.credit -= 1

    def prefilled(self) -> list[tuple[int, int, int]]:
        """(id, tokens read, tokens in all) of each sequence whose prompt is not read to its end."""
        return [(each.id, each.decoded, len(each.prompt)) for each in self._sequences.values() if each.unread]
