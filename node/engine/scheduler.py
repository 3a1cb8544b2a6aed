"""Scheduler: which tokens of which sequences go into the next batch.

    admit --> read (the prompt, in chunks) --> decode (a token a step) --> removed
                 |                                ^    |
                 +-- follow: other choices -------+    +--> paused without credit

Every step carries one token of each sequence that is decoding, so that nobody's
stream stands still, and as much prompt as fits the time a step may take: the speed of
the steps before says how much that is. While others stream, that time follows what they
are used to. Prompts share a step evenly. While nobody streams, they are read in whole
tiles wherever the machine is fast enough, because fewer tokens at once take longer each.

Other choices of one prompt follow the first: they wait until it is read, and go on in
slots of their own from a copy of it.

Knows neither tokens' meaning nor llama.cpp. Time comes in as measured durations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

BATCH_MAX = 512
"""Tokens in one step. llama.cpp's own size of one pass, past which the speed hardly rises."""

TILE = 64
"""Tokens in one step from which on llama.cpp's flash attention on a processor takes them 64 together
(`GGML_FA_TILE_Q`); of fewer it looks up what came before for each alone. SmolLM2 after 1,500 tokens, two
threads: 63 take 1.1 s, 64 take 0.28 s. At the beginning of a prompt there is no difference."""

REPRODUCIBLE_CHUNK = 16
"""Tokens at a time where the same must come out twice: how many are read together changes the rounding, so
their number must not follow the speed of this machine, nor what a self-test made of it this time. A slow
machine, which reads 16 tokens/s, still ends a step in a second; a whole tile would take it four. Long prompts
are read more slowly so, which is the price of a seed."""

_WEIGHT_OF_LATEST = 0.25
"""Of the latest step in the mean of what a step takes: one that was disturbed says little. The first of so
many sequences says more than those of others before."""

SequenceId: TypeAlias = tuple[int, int]
"""Request and choice."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens of one sequence in a batch."""

    id: SequenceId
    slot: int
    """The number of its sequence inside the engine: 0 and up, below `slots`."""
    position: int
    """Of the first token."""
    tokens: Sequence[int]
    wants_output: bool
    """After its last token, a new one is to be sampled."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A prompt is read: another choice of it goes on from a copy."""

    id: SequenceId
    slot: int
    leader: SequenceId
    source: int
    """Slot of the leader, which holds exactly the prompt."""
    is_sampled: bool
    """It begins with what the leader's output says. Else it has tokens of its own to read first."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """How long one step may take."""

    slots: int
    step_alone: float = 0.4
    """Seconds while only prompts are read; cancelling waits for it. A tile may take longer."""
    reading_share: float = 2.0
    """While others stream, reading takes at most so many times what decoding them does: the gap they see is
    three times as long as usual, noticed as slower and not as stuck, on a fast machine and on a slow one."""
    reading_min: float = 0.01
    """Seconds for it in any case. A hundred tokens a second are more than anybody reads."""

    def __post_init__(self) -> None:
        assert 0 < self.slots < BATCH_MAX
        assert 0 < self.reading_min <= self.step_alone < 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How a sequence is read before anything is sampled."""

    delivered: Sequence[int] = ()
    """What follows the prompt already."""
    is_replayed: bool = False
    """One delivered token at a step, as they were made."""
    is_reproducible: bool = False
    """While no other request is at work: in chunks that do not depend on how fast this machine is now."""


@dataclass(slots=True)
class _Sequence:
    id: SequenceId
    slot: int
    prompt: Sequence[int]
    credit: int
    reading: Reading
    decoded: int
    """Tokens that are in the context."""
    leader: SequenceId | None = None
    """Whose prompt it waits for."""
    answer: list[int] = field(init=False)
    length: int = field(init=False)
    """Tokens that are known."""
    given_end: int = field(init=False)
    """How many tokens were not sampled here: of these nothing new comes out."""
    read_end: int = field(init=False)
    """How many tokens are read in chunks; those after them come one at a time."""

    def __post_init__(self) -> None:
        self.answer = list(self.reading.delivered)
        self.length = self.given_end = len(self.prompt) + len(self.answer)
        self.read_end = len(self.prompt) if self.reading.is_replayed else self.given_end

    @property
    def is_reading(self) -> bool:
        return self.decoded < self.read_end

    @property
    def is_awake(self) -> bool:
        """Whether a token of it can be decoded now."""
        return self.leader is None and (
            self.decoded < self.read_end or (self.credit > 0 and self.decoded < self.length)
        )

    def append(self, token: int) -> None:
        self.answer.append(token)
        self.length += 1

    def tokens(self, begin: int, end: int) -> Sequence[int]:
        size = len(self.prompt)
        if end <= size:
            return self.prompt[begin:end]
        if begin >= size:
            return self.answer[begin - size : end - size]
        return [*self.prompt[begin:], *self.answer[: end - size]]


@dataclass(slots=True)
class Scheduler:
    """The sequences of one engine."""

    config: SchedulerConfig
    prefill_speed: float
    """Tokens per second, of fewer than a tile; at first a careful guess, then what the steps show."""
    decode_seconds: float = 0.05
    """Of a step that reads nothing, likewise, and..."""
    _decode_width: int = 1
    """...of so many sequences."""
    _tile_speed: float = field(init=False)
    """Like `prefill_speed`, of a tile and more."""
    _reads_tiles: bool = False
    """While nobody streams, a step once was so fast that a tile takes a second. Never taken back: deep in a
    prompt, or while other programs compute, a tile takes longer, but fewer tokens take longer still,
    each, and nothing in how long they take would show the way back."""
    _sequences: dict[SequenceId, _Sequence] = field(default_factory=dict)
    _read: int = 0
    """Tokens of prompts in the latest step."""
    _decoded: int = 0
    """Others in it."""

    def __post_init__(self) -> None:
        self._tile_speed = self.prefill_speed

    def admit(
        self,
        sequence_id: SequenceId,
        slot: int,
        prompt: Sequence[int],
        *,
        credit: int,
        kept: int = 0,
        reading: Reading | None = None,
    ) -> None:
        """Read `prompt` into `slot`, which holds its first `kept` tokens, and then decode."""
        assert 0 <= kept < len(prompt), "there must be something to decode"
        assert all(slot != other.slot for other in self._sequences.values())
        reading = reading or Reading()
        self._sequences[sequence_id] = _Sequence(sequence_id, slot, prompt, credit, reading, decoded=kept)

    def follow(
        self,
        sequence_id: SequenceId,
        slot: int,
        leader: SequenceId,
        *,
        credit: int,
        reading: Reading | None = None,
    ) -> None:
        """Go on in `slot` from a copy of the prompt of `leader`, which was just admitted."""
        self.admit(sequence_id, slot, self._sequences[leader].prompt, credit=credit, reading=reading)
        self._sequences[sequence_id].leader = leader

    def remove(self, sequence_id: SequenceId) -> Sequence[int]:
        """Its slot is free from now on. Returns the tokens it holds."""
        sequence = self._sequences.pop(sequence_id)
        return sequence.tokens(0, sequence.decoded)

    def grant(self, sequence_id: SequenceId, credit: int) -> None:
        """Let it produce `credit` more tokens before it pauses."""
        self._sequences[sequence_id].credit += credit

    @property
    def has_work(self) -> bool:
        """Whether `plan` would plan anything."""
        return any(each.is_awake for each in self._sequences.values())

    def is_paused(self, sequence_id: SequenceId) -> bool:
        """Whether it waits for credit."""
        return self._sequences[sequence_id].credit <= 0

    def is_read(self, sequence_id: SequenceId) -> bool:
        """Whether nothing of it is left to decode: its next token can be sampled."""
        sequence = self._sequences[sequence_id]
        return sequence.decoded == sequence.length

    def held(self, sequence_id: SequenceId) -> int:
        """How many of its tokens are in the context."""
        return self._sequences[sequence_id].decoded

    def plan(self) -> list[Span]:
        """The next batch. Empty if all sequences wait for credit."""
        awake = [each for each in self._sequences.values() if each.is_awake]
        decoding = [self._span(each, 1) for each in awake if not each.is_reading]
        reading = [each for each in awake if each.is_reading]
        if not reading:
            return decoding
        budget = self._read_budget(len(decoding))
        if all(each.reading.is_reproducible and each.id[0] == awake[0].id[0] for each in awake):
            budget = min(REPRODUCIBLE_CHUNK, BATCH_MAX - len(decoding))
        elif len(awake) == 1 and TILE <= budget < (unread := self._chunk_max(awake[0])):
            # What makes no whole tile goes first, while little came before it.
            budget -= (budget - unread) % TILE
        return decoding + self._plan_reading(reading, budget)

    def _span(self, sequence: _Sequence, count: int) -> Span:
        begin, end = sequence.decoded, sequence.decoded + count
        wants_output = end == sequence.length or (
            end == len(sequence.prompt)
            and any(not follower.answer for follower in self._followers(sequence.id))
        )
        return Span(sequence.id, sequence.slot, begin, sequence.tokens(begin, end), wants_output)

    def _plan_reading(self, reading: list[_Sequence], budget: int) -> list[Span]:
        spans = []
        # The shortest first: what it leaves of its share goes to the longer ones.
        for index, sequence in enumerate(sorted(reading, key=self._chunk_max)):
            waiting = len(reading) - index
            count = min(self._chunk_max(sequence), -(-budget // waiting))
            if count == 0:
                break
            spans.append(self._span(sequence, count))
            budget -= count
        return spans

    def _chunk_max(self, sequence: _Sequence) -> int:
        """How many tokens of it could be read at once. A prompt that others wait for ends a chunk."""
        size = len(sequence.prompt)
        is_awaited = sequence.decoded < size and bool(self._followers(sequence.id))
        return (size if is_awaited else sequence.read_end) - sequence.decoded

    def _followers(self, leader: SequenceId) -> list[_Sequence]:
        return [each for each in self._sequences.values() if each.leader == leader]

    def _read_budget(self, decoding: int) -> int:
        seconds = self.config.step_alone
        if decoding:
            shared = self.config.reading_share * self._decoding_takes(decoding)
            seconds = min(seconds, max(shared, self.config.reading_min))
        count = round(self._tile_speed * seconds)
        if count < TILE:
            count = min(round(self.prefill_speed * seconds), TILE)
        least = TILE if self._reads_tiles and not decoding else 1
        return max(least, min(count, BATCH_MAX - decoding))

    def _decoding_takes(self, sequences: int) -> float:
        """Seconds of a step that only decodes so many; at most, where they are more than were measured."""
        return self.decode_seconds * max(1.0, sequences / self._decode_width) if sequences else 0.0

    def carried_out(self, spans: Sequence[Span]) -> list[Fork]:
        """`spans`, as planned, are in the context. Returns who goes on from them now."""
        self._read = self._decoded = 0
        forks: list[Fork] = []
        for span in spans:
            sequence = self._sequences[span.id]
            if sequence.is_reading:
                self._read += len(span.tokens)
            else:
                self._decoded += 1
            sequence.decoded += len(span.tokens)
            if sequence.decoded == len(sequence.prompt):
                forks += self._fork(sequence)
        return forks

    def _fork(self, leader: _Sequence) -> list[Fork]:
        followers = self._followers(leader.id)
        for follower in followers:
            follower.leader, follower.decoded = None, leader.decoded
        return [
            Fork(each.id, each.slot, leader.id, leader.slot, is_sampled=not each.answer) for each in followers
        ]

    def took(self, seconds: float) -> None:
        """What was carried out last took so long, with all that belongs to it."""
        if self._read == 0:
            weight = _WEIGHT_OF_LATEST if self._decoded == self._decode_width else 1.0
            self.decode_seconds += (seconds - self.decode_seconds) * weight
            self._decode_width = self._decoded
            return
        speed = self._read / max(seconds - self._decoding_takes(self._decoded), 1e-6)
        is_tile = self._read >= TILE
        # Fewer than a tile are never read faster.
        known = max(self._tile_speed, self.prefill_speed) if is_tile else self.prefill_speed
        if self._decoded:
            # Where that leaves next to nothing by chance, the next step must not become endless.
            speed = min(speed, 2 * known)
        elif speed >= TILE:
            self._reads_tiles = True
        if is_tile:
            self._tile_speed, self.prefill_speed = speed, min(self.prefill_speed, speed)
        elif self._read >= self._read_budget(self._decoded):
            self.prefill_speed = speed
        else:
            # Part of a step's time is the same however little it carries, so a small
            # prompt makes the engine look slow: only a full step may lower the speed.
            self.prefill_speed = max(known, speed)

    def sampled(self, sequence_id: SequenceId, token: int) -> None:
        """`token` follows; it goes into the next batch if there is credit."""
        sequence = self._sequences[sequence_id]
        assert sequence.decoded == sequence.length
        sequence.append(token)
        sequence.credit -= 1

    def unfinished(self) -> list[tuple[SequenceId, int, int]]:
        """(id, tokens read, tokens in all) of each that has not been read, or replayed, to its end."""
        return [
            (each.id, each.decoded, each.given_end)
            for each in self._sequences.values()
            if each.decoded < each.given_end and each.leader is None
        ]
