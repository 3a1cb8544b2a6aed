"""Whoever waits for an engine hears how far it is, at least once a second."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.backend import Delivered, Resume
from node.engine.embed_loop import EmbedLoop
from node.engine.scheduler import Scheduler, SchedulerConfig
from node.engine.step_loop import StepLoop
from node.engine.wire import (
    Embed,
    EmbedRequest,
    EngineParams,
    Finished,
    Generate,
    GenerateRequest,
    ModelFacts,
    Piece,
    Prefilled,
)

STEP = 0.4


class Clock:
    """Each step takes as long as a step may take."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def slowly(clock: Clock, compute: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*arguments: Any) -> Any:
        clock.now += STEP
        return compute(*arguments)

    return computed


def heard_at(loop: StepLoop | EmbedLoop, request_id: int, clock: Clock) -> list[float]:
    """When something was said of a request, until there is nothing left to do."""
    times = [0.0]
    while loop.has_work:
        messages = loop.step()
        times += [clock.now] * any(
            each.id == request_id for each in messages if isinstance(each, Piece | Prefilled | Finished)
        )
    return times


def gap_max(times: Sequence[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def test_a_long_prompt_is_told_of_while_it_is_read(echo_model: Callable[..., Any]) -> None:
    clock = Clock()
    model = echo_model(EngineParams("", context_size=1000))
    model.decode = slowly(clock, model.decode)
    loop = StepLoop(model, Scheduler(SchedulerConfig(1), prefill_speed=10.0), clock, lambda: 1)
    loop.handle(Generate(1, GenerateRequest((7,) * 200, max_tokens=1)))
    times = heard_at(loop, 1, clock)
    assert times[-1] > 10 * STEP
    assert gap_max(times) <= 1.0


def test_an_answer_that_is_replayed_is_told_of(echo_model: Callable[..., Any]) -> None:
    clock = Clock()
    model = echo_model(EngineParams("", context_size=1000))
    model.decode = slowly(clock, model.decode)
    loop = StepLoop(model, Scheduler(SchedulerConfig(1), prefill_speed=10.0), clock, lambda: 1)
    resume = Resume(hashlib.sha256(b"\7\0\0\0").digest(), (Delivered((7,) * 20),), is_replayed=True)
    loop.handle(Generate(1, GenerateRequest((7,), max_tokens=21, ignore_eos=True, resume=resume)))
    times = heard_at(loop, 1, clock)
    assert times[-1] > 20 * STEP
    assert gap_max(times) <= 1.0


class OneAtATime:
    """A model that embeds one short text in a batch."""

    bos, adds_bos, infill, token_size_max = None, False, None, 8
    batch_max, texts_max = 4, 1
    facts = ModelFacts(4, 10, None, "", "", (), (), ("embeddings",))

    def tokenize(self, part: object) -> list[int]:
        raise NotImplementedError

    piece = whole = paired = self_test = tokenize

    def embed(self, texts: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return [np.zeros(2, np.float32) for _ in texts]


def test_texts_that_wait_for_others_are_told_of() -> None:
    clock = Clock()
    model: Any = OneAtATime()
    model.embed = slowly(clock, model.embed)
    loop = EmbedLoop(model, clock)
    for request_id in range(8):
        loop.handle(Embed(request_id, EmbedRequest(((1, 2, 3),) * 3)))
    times = heard_at(loop, 5, clock)
    assert times[-1] > 10 * STEP
    assert gap_max(times) <= 1.0
