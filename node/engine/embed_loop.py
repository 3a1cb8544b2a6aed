"""Embed loop: texts in, batches through the model, vectors out.

    handle(message)   Embed, Cancel, lookups    between two steps
    step()            one batch: texts of all requests in turn, as many as it holds

A request of two thousand texts does not keep one of a single text waiting. Knows the model by the
port below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from node.engine.engine_prompt import Tokenizer
from node.engine.errors import PromptRefused, PromptTooLong
from node.engine.lookup import answer_lookup
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
class _Work:
    """One request under way."""

    id: int
    texts: deque[tuple[int, list[int]]]
    """Those not embedded yet, each with its number."""
    tokens: int
    arrived: float
    started: float | None = None
    read: int = 0
    """Tokens of those that are embedded."""
    reported: float = field(init=False)
    """When it last said something."""
    unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.unfinished = len(self.texts)
        self.reported = self.arrived


class EmbedLoop:
    """All requests of one engine."""

    def __init__(self, model: EmbeddingModel, clock: Callable[[], float]) -> None:
        self._model = model
        self._clock = clock
        self._works: dict[int, _Work] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._works)

    def handle(self, message: ToChild) -> list[FromChild]:
        """Take in one message."""
        match message:
            case Embed(request_id, request):
                return self._admit(request_id, request)
            case Tokenize(request_id, lookup) | Detokenize(request_id, lookup):
                return answer_lookup(self._model, request_id, lookup, self._clock)
            case Generate(request_id):
                return [Refused(request_id, "this model embeds texts, and generates none", param="model")]
            case Cancel(request_id):
                self._works.pop(request_id, None)
            case _:
                pass
        return []

    def _admit(self, request_id: int, request: EmbedRequest) -> list[FromChild]:
        try:
            query = None if request.query is None else self._query(request.query)
            texts = [self._read(each, number, query) for number, each in enumerate(request.inputs)]
        except PromptRefused as error:
            is_long = isinstance(error, PromptTooLong)
            return [Refused(request_id, str(error), "too_long" if is_long else "unservable", error.param)]
        tokens = sum(map(len, texts))
        self._works[request_id] = _Work(request_id, deque(enumerate(texts)), tokens, self._clock())
        return [Accepted(request_id, bytes(32), tokens)]

    def _query(self, query: PromptPart) -> list[int]:
        self._require_short(query, "the query")
        return self._model.tokenize(query)

    def _read(self, text: PromptPart | tuple[int, ...], number: int, query: list[int] | None) -> list[int]:
        self._require_short(text, f"input {number}")
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

    def _require_short(self, text: PromptPart | tuple[int, ...], what: str) -> None:
        size_max = self._model.facts.context_size * self._model.token_size_max
        size = len(text.text.encode()) if isinstance(text, PromptPart) else len(text)
        if size > size_max:
            # A megabyte takes a second to tokenize, and everybody would wait for it.
            raise PromptTooLong(f"{what} is longer than the model can read", param="input")

    def _tokens(self, text: PromptPart | tuple[int, ...]) -> list[int]:
        if isinstance(text, PromptPart):
            return self._model.tokenize(text)
        vocab_size = self._model.facts.vocab_size
        unknown = next((token for token in text if not 0 <= token < vocab_size), None)
        if unknown is not None:
            raise PromptRefused(f"there is no token {unknown}; this model has {vocab_size}", param="input")
        return list(text)

    def step(self) -> list[FromChild]:
        """One batch: what came out of it."""
        began = self._clock()
        batch = self._next_batch()
        vectors = self._model.embed([tokens for _, _, tokens in batch])
        now = self._clock()
        messages: list[FromChild] = []
        for (work, number, tokens), vector in zip(batch, vectors, strict=True):
            if work.started is None:
                work.started = began
            work.unfinished -= 1
            work.read += len(tokens)
            work.reported = now
            messages.append(Piece(work.id, number, (), "", vector=vector.astype("<f4").tobytes()))
        for work in [each for each in self._works.values() if not each.unfinished]:
            del self._works[work.id]
            messages.append(_finished(work, now))
        return messages + self._progress(now)

    def _progress(self, now: float) -> list[FromChild]:
        """Of those whose turn has not come for a while."""
        silent = [work for work in self._works.values() if now - work.reported >= PROGRESS_INTERVAL]
        for work in silent:
            work.reported = now
        return [Prefilled(work.id, work.read, work.tokens) for work in silent]

    def _next_batch(self) -> list[tuple[_Work, int, list[int]]]:
        """A text of each request in turn, while there is room."""
        batch: list[tuple[_Work, int, list[int]]] = []
        room = self._model.batch_max
        waiting = deque(work for work in self._works.values() if work.texts)
        while waiting and len(batch) < self._model.texts_max:
            work = waiting.popleft()
            if len(work.texts[0][1]) > room:
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


def _finished(work: _Work, now: float) -> Finished:
    assert work.started is not None
    return Finished(work.id, (), work.tokens, 0, 0, work.started - work.arrived, now - work.started, 0.0)
