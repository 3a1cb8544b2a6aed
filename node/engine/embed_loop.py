"""Embed loop: texts in, batches through the model, vectors out.

    handle(message)   Embed, Cancel, lookups    between two steps
    step()            some texts to tokens, and one batch: texts of all requests in turn

A step takes as many texts as the steps before say fit its time, but one at least, and whole. So a
request of two thousand texts does not keep one of a single text waiting. Knows the model by the
port below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from node.engine.engine_prompt import Tokenizer, text_size_max
from node.engine.errors import PromptRefused, PromptTooLong
from node.engine.lookup import answer_lookup
from node.engine.refusals import refusal
from node.engine.step_loop import PROGRESS_INTERVAL
from node.engine.wire import (
    Accepted,
    Cancel,
    Detokenize,
    Embed,
    EmbedRequest,
    Finished,
    FromChild,
    Generate,
    Piece,
    Prefilled,
    PromptPart,
    Refused,
    ToChild,
    Tokenize,
)

STEP_MAX = 0.4
"""Seconds, as of a step that reads a prompt: cancelling and progress wait for it."""

READ_SIZE_MAX = 32 * 1024
"""Bytes of text, or ids, that become tokens in one step: they take some hundredths of a second."""


@runtime_checkable
class EmbeddingModel(Tokenizer, Protocol):
    """What the loop asks of a model."""

    @property
    def batch_max(self) -> int:
        """Tokens in one batch; no text has more."""

    @property
    def texts_max(self) -> int: ...
    def whole(self, part: PromptPart) -> list[int]: ...
    def paired(self, query: Sequence[int], document: Sequence[int]) -> list[int]: ...
    def embed(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]: ...
    def self_test(self, clock: Callable[[], float]) -> float: ...


@dataclass(slots=True)
class _Reading:
    """One request of which not all texts are tokens yet."""

    id: int
    request: EmbedRequest
    arrived: float
    query: list[int] | None = None
    texts: list[list[int]] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """One request under way."""

    id: int
    texts: deque[tuple[int, list[int]]]
    """Those not embedded yet, each with its number."""
    tokens: int
    arrived: float
    reported: float
    """When it last said something."""
    embedded: int = 0
    """Of its tokens."""
    started: float | None = None
    unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.unfinished = len(self.texts)


class EmbedLoop:
    """All requests of one engine."""

    def __init__(self, model: EmbeddingModel, clock: Callable[[], float]) -> None:
        self._model = model
        self._clock = clock
        self._readings: dict[int, _Reading] = {}
        self._works: dict[int, _Work] = {}
        self._speed = 0.0
        """Tokens per second, as the steps show. Nothing is known at first, so the first takes one text."""

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._works or self._readings)

    def handle(self, message: ToChild) -> list[FromChild]:
        """Take in one message."""
        match message:
            case Embed(request_id, request):
                self._readings[request_id] = _Reading(request_id, request, self._clock())
            case Tokenize(request_id, lookup) | Detokenize(request_id, lookup):
                return answer_lookup(self._model, request_id, lookup, self._clock)
            case Generate(request_id):
                return [Refused(request_id, "this model embeds texts, and generates none", param="model")]
            case Cancel(request_id):
                self._works.pop(request_id, None)
                self._readings.pop(request_id, None)
            case _:
                pass
        return []

    def _read_some(self) -> list[FromChild]:
        """Texts of all requests in turn become tokens: not all at once, because others wait."""
        messages: list[FromChild] = []
        room = READ_SIZE_MAX
        while self._readings and room > 0:
            reading = next(iter(self._readings.values()))
            # To the end of the line: dicts keep their order.
            del self._readings[reading.id]
            try:
                room -= self._read_next(reading)
            except PromptRefused as error:
                messages.append(refusal(reading.id, error))
                continue
            if len(reading.texts) < len(reading.request.inputs):
                self._readings[reading.id] = reading
            else:
                messages.append(self._admit(reading))
        return messages

    def _admit(self, reading: _Reading) -> Accepted:
        tokens = sum(map(len, reading.texts))
        work = _Work(reading.id, deque(enumerate(reading.texts)), tokens, reading.arrived, self._clock())
        self._works[work.id] = work
        return Accepted(work.id, bytes(32), tokens)

    def _read_next(self, reading: _Reading) -> int:
        """Its next text. Returns the size of what was read."""
        query, size = reading.request.query, 0
        if query is not None and reading.query is None:
            size += self._short_size(query, "the query", "query")
            reading.query = self._model.tokenize(query)
        number = len(reading.texts)
        text = reading.request.inputs[number]
        size += self._short_size(text, f"input {number}", "input")
        reading.texts.append(self._read(text, number, reading.query))
        # What is empty takes time too.
        return size + 1

    def _read(self, text: PromptPart | tuple[int, ...], number: int, query: list[int] | None) -> list[int]:
        if query is not None:
            tokens = self._model.paired(query, self._tokens(text))
        elif isinstance(text, PromptPart):
            tokens = self._model.whole(text)
        else:
            tokens = self._tokens(text)
        limit = self._model.facts.context_size
        if len(tokens) > limit:
            raise PromptTooLong(
                f"input {number} has {len(tokens)} tokens; the model reads {limit}", param="input"
            )
        if not tokens:
            raise PromptRefused(f"input {number} is empty", param="input")
        return tokens

    def _short_size(self, text: PromptPart | tuple[int, ...], what: str, param: str) -> int:
        is_text = isinstance(text, PromptPart)
        size = len(text.text.encode()) if isinstance(text, PromptPart) else len(text)
        if size > (text_size_max(self._model) if is_text else self._model.facts.context_size):
            raise PromptTooLong(f"{what} is longer than the model can read", param=param)
        return size

    def _tokens(self, text: PromptPart | tuple[int, ...]) -> list[int]:
        if isinstance(text, PromptPart):
            return self._model.tokenize(text)
        vocab_size = self._model.facts.vocab_size
        unknown = next((token for token in text if not 0 <= token < vocab_size), None)
        if unknown is not None:
            raise PromptRefused(f"there is no token {unknown}; this model has {vocab_size}", param="input")
        return list(text)

    def step(self) -> list[FromChild]:
        """Read some texts and embed a batch: what came out of it."""
        messages = self._read_some()
        batch = self._next_batch()
        began = self._clock()
        if batch:
            messages += self._embed(batch, began)
        return messages + self._progress(self._clock())

    def _embed(self, batch: Sequence[tuple[_Work, int, list[int]]], began: float) -> list[FromChild]:
        room = self._room()
        vectors = self._model.embed([tokens for _, _, tokens in batch])
        now = self._clock()
        self._took(sum(len(tokens) for _, _, tokens in batch), now - began, room)
        messages: list[FromChild] = []
        for (work, number, tokens), vector in zip(batch, vectors, strict=True):
            if work.started is None:
                work.started = began
            work.unfinished -= 1
            work.embedded += len(tokens)
            work.reported = now
            messages.append(Piece(work.id, number, (), "", vector=vector.astype("<f4").tobytes()))
        for work in [each for each in self._works.values() if not each.unfinished]:
            del self._works[work.id]
            messages.append(_finished(work, now))
        return messages

    def _room(self) -> int:
        """Tokens that a step may take."""
        return min(self._model.batch_max, int(self._speed * STEP_MAX))

    def _took(self, tokens: int, seconds: float, room: int) -> None:
        speed = tokens / max(seconds, 1e-6)
        # A small batch makes the engine look slow: only a full one may lower the speed.
        self._speed = speed if tokens >= room else max(self._speed, speed)

    def _next_batch(self) -> list[tuple[_Work, int, list[int]]]:
        """A text of each request in turn, while there is room."""
        batch: list[tuple[_Work, int, list[int]]] = []
        room = self._room()
        waiting = deque(work for work in self._works.values() if work.texts)
        while waiting and len(batch) < self._model.texts_max:
            work = waiting.popleft()
            if batch and len(work.texts[0][1]) > room:
                continue
            number, tokens = work.texts.popleft()
            batch.append((work, number, tokens))
            room -= len(tokens)
            if work.texts:
                waiting.append(work)
        # Whoever found no room is the first to find it next time.
        for work in {each.id: each for each, _, _ in batch}.values():
            self._works[work.id] = self._works.pop(work.id)
        return batch

    def _progress(self, now: float) -> list[FromChild]:
        messages: list[FromChild] = []
        for work in self._works.values():
            if now - work.reported >= PROGRESS_INTERVAL:
                work.reported = now
                messages.append(Prefilled(work.id, work.embedded, work.tokens))
        return messages


def _finished(work: _Work, now: float) -> Finished:
    assert work.started is not None
    return Finished(work.id, (), work.tokens, 0, 0, work.started - work.arrived, now - work.started, 0.0)
