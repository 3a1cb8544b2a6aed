"""Step loop: requests in, batches through the model, tokens out.

    handle(message)   Generate, Credit, Cancel      between two steps, so all take effect within one
    step()            plan -> decode -> sample      one batch for all sequences

Owns what belongs to a sequence while it lives: its slot, sampler, text and times.
Knows the model by the port below, so it runs as well on one that only pretends.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.backend import FinishReason, Sampling
from node.engine.errors import PromptRefused, PromptTooLong
from node.engine.scheduler import Scheduler, Span
from node.engine.text_stream import TextStream
from node.engine.wire import (
    UNREAD_PIECES_MAX,
    Accepted,
    Cancel,
    Credit,
    Finished,
    FromChild,
    Generate,
    GenerateRequest,
    ModelFacts,
    Piece,
    Prefilled,
    PromptPart,
    Refused,
    ToChild,
)

PROGRESS_INTERVAL = 0.5
"""Seconds between two Prefilled of one sequence. With a step of at most 0.4 s, one a second is kept."""


class TokenSampler(Protocol):
    """Chooses the next token of one sequence."""

    def sample(self, row: int) -> int:
        """The next token, from the output of `row` of the latest batch."""

    def close(self) -> None:
        """Free it."""


class Model(Protocol):
    """What the loop asks of a model."""

    @property
    def facts(self) -> ModelFacts: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def adds_bos(self) -> bool: ...
    @property
    def token_size_max(self) -> int: ...
    def self_test(self, clock: Callable[[], float]) -> float: ...
    def tokenize(self, part: PromptPart) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def new_sampler(self, sampling: Sampling, *, ignore_eos: bool) -> TokenSampler: ...
    def decode(self, spans: Sequence[Span]) -> list[int]: ...
    def forget(self, slot: int) -> None: ...


@dataclass(slots=True)
class _Generation:
    """One sequence under way."""

    id: int
    slot: int
    prompt_tokens: int
    answer_max: int
    """Tokens, by its own limit or by what its context still holds."""
    sampler: TokenSampler
    text: TextStream
    arrived: float
    started: float | None = None
    """When its first step began."""
    first_token: float | None = None
    reported: float = 0.0
    """When it last said something."""
    generated: int = 0


class StepLoop:
    """All sequences of one engine."""

    def __init__(self, model: Model, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        self._model = model
        self._scheduler = scheduler
        self._clock = clock
        self._generations: dict[int, _Generation] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._scheduler.has_work

    def handle(self, message: ToChild) -> list[FromChild]:
        """Take in one message. Credit and Cancel for a sequence that has ended only crossed its end."""
        match message:
            case Generate(sequence_id, request):
                return [self._admit(sequence_id, request)]
            case Credit(sequence_id, pieces) if sequence_id in self._generations:
                self._scheduler.grant(sequence_id, pieces)
            case Cancel(sequence_id) if sequence_id in self._generations:
                self._remove(sequence_id)
            case _:
                pass
        return []

    def _admit(self, sequence_id: int, request: GenerateRequest) -> Accepted | Refused:
        arrived = self._clock()
        try:
            prompt = prompt_tokens(self._model, request.prompt)
            answer_max = _answer_max(len(prompt), request.max_tokens, self._model.facts.context_size)
        except PromptRefused as error:
            return Refused(sequence_id, str(error), isinstance(error, PromptTooLong))
        self._generations[sequence_id] = _Generation(
            id=sequence_id,
            slot=self._scheduler.admit(sequence_id, prompt, UNREAD_PIECES_MAX),
            prompt_tokens=len(prompt),
            answer_max=answer_max,
            sampler=self._model.new_sampler(request.sampling, ignore_eos=request.ignore_eos),
            text=TextStream(tuple(filter(None, request.stop))),
            arrived=arrived,
            reported=arrived,
        )
        return Accepted(sequence_id, prompt_sha256(prompt), len(prompt))

    def step(self) -> list[FromChild]:
        """One batch: what came out of it."""
        spans = self._scheduler.plan()
        began = self._clock()
        for span in spans:
            generation = self._generations[span.id]
            if generation.started is None:
                generation.started = began
        rows = self._model.decode(spans)
        # Sampling waits for the batch's results, so it belongs to the time of the step.
        tokens = [
            (span.id, self._generations[span.id].sampler.sample(row))
            for span, row in zip(spans, rows, strict=True)
            if span.wants_output
        ]
        now = self._clock()
        self._scheduler.carried_out(spans, now - began)
        messages: list[FromChild] = []
        for sequence_id, token in tokens:
            messages += self._on_token(self._generations[sequence_id], token, now)
        return messages + self._progress(now)

    def _on_token(self, generation: _Generation, token: int, now: float) -> list[FromChild]:
        if generation.first_token is None:
            generation.first_token = now
        generation.reported = now
        if self._model.is_end(token):
            return self._finish(generation, "stop", now)
        self._scheduler.sampled(generation.id, token)
        generation.generated += 1
        text = generation.text.feed(self._model.piece(token))
        piece = Piece(generation.id, (token,), text)
        if generation.text.stopped:
            return [piece, *self._finish(generation, "stop", now)]
        if generation.generated >= generation.answer_max:
            return [piece, *self._finish(generation, "length", now)]
        return [piece]

    def _finish(self, generation: _Generation, reason: FinishReason, now: float) -> list[FromChild]:
        self._remove(generation.id)
        assert generation.started is not None
        assert generation.first_token is not None
        rest = generation.text.finish()
        finished = Finished(
            generation.id,
            reason,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.generated,
            queue=generation.started - generation.arrived,
            prefill=generation.first_token - generation.started,
            decode=now - generation.first_token,
        )
        return [Piece(generation.id, (), rest), finished] if rest else [finished]

    def _progress(self, now: float) -> list[FromChild]:
        messages: list[FromChild] = []
        for sequence_id, prefilled, total in self._scheduler.prefilled():
            generation = self._generations[sequence_id]
            if now - generation.reported >= PROGRESS_INTERVAL:
                generation.reported = now
                messages.append(Prefilled(sequence_id, prefilled, total))
        return messages

    def _remove(self, sequence_id: int) -> None:
        generation = self._generations.pop(sequence_id)
        self._scheduler.remove(sequence_id)
        self._model.forget(generation.slot)
        generation.sampler.close()


def prompt_tokens(model: Model, prompt: Sequence[PromptPart | int]) -> list[int]:
    """The token ids of `prompt`, at least one.

    Raises:
      PromptRefused: an id the vocabulary does not have, or nothing to start from.
    """
    tokens: list[int] = []
    is_text = False
    size = sum(len(part.text.encode()) for part in prompt if isinstance(part, PromptPart))
    context_size = model.facts.context_size
    if size > context_size * model.token_size_max:
        # A megabyte takes a second to tokenize, and everybody would wait for it.
        raise PromptTooLong(f"{size} bytes of prompt cannot fit the context of {context_size} tokens")
    for part in prompt:
        if isinstance(part, PromptPart):
            is_text = True
            tokens += model.tokenize(part)
        elif 0 <= part < model.facts.vocab_size:
            tokens.append(part)
        else:
            raise PromptRefused(f"there is no token {part}; this model has {model.facts.vocab_size}")
    # A template may have written the first token already.
    if model.bos is not None and (not tokens or (is_text and model.adds_bos and tokens[0] != model.bos)):
        tokens.insert(0, model.bos)
    if not tokens:
        raise PromptRefused("the prompt is empty, and this model has no token to begin with")
    return tokens


def _answer_max(prompt_length: int, max_tokens: int | None, context_size: int) -> int:
    """How many tokens may be generated.

    Raises:
      PromptTooLong: not one, or fewer than were asked for.
    """
    room = context_size - prompt_length
    if max_tokens is not None and max_tokens > room:
        raise PromptTooLong(
            f"{prompt_length} tokens of prompt and {max_tokens} of answer "
            f"do not fit the context of {context_size}"
        )
    if room < 1:
        raise PromptTooLong(f"{prompt_length} tokens of prompt do not fit the context of {context_size}")
    return room if max_tokens is None else max_tokens


def prompt_sha256(tokens: Sequence[int]) -> bytes:
    """SHA-256 over the ids, 4 bytes little-endian each: equal prompts on two machines have equal ones."""
    return hashlib.sha256(struct.pack(f"<{len(tokens)}i", *tokens)).digest()
