"""Inside the engine process: what of a step is Python's, and how soon a cancelled request is out of it.

Sixteen generations in one engine without a node around it; its child notes when llama.cpp computes and when
a cancelled request's slot is free (`timed_child.py`). A step lasts from its beginning, right after messages
were looked for, to that of the next. A cancellation is compared with the step that it waited for: they
become longer while answers do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import trio

from node.engine.engine import Engine, EngineConfig
from node.engine.wire import EngineParams, GenerateRequest, PromptPart
from tests.bench.engine_sides import CONTEXT_SIZE, SLOTS, THREADS, BenchModel
from tests.bench.figures import Figure
from tests.bench.timed_child import Decode, read_notes

STEPS = 100
CANCELLED = 20
STEPS_BETWEEN = 5
_TIMEOUT = 300.0


def measure_steps(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """A run of steps in which all slots decode, and then cancellations."""
    notes = folder / "decodes"
    cancelled_at = trio.run(_run, model, notes)
    decodes, freed_at = read_notes(notes)
    whole = _whole_steps(decodes)
    outside = sum(later.began - earlier.ended for earlier, later in whole)
    total = sum(later.step_began - earlier.step_began for earlier, later in whole)
    step = median(later.step_began - earlier.step_began for earlier, later in whole)
    what = f"{model.name}, a step of {SLOTS} streams"
    yield Figure(what, step * 1000, "ms")
    yield Figure(f"{what}: outside of llama_decode", 100 * outside / total, "%", 8)
    freed = [(at, next(each for each in freed_at if each > at)) for at in cancelled_at]
    took = [(later - earlier) / _step_before(decodes, later) for earlier, later in freed]
    begun = [sum(earlier < each.step_began < later for each in decodes) for earlier, later in freed]
    what = f"{model.name}, cancelled until its slot is free"
    yield Figure(f"{what}: steps begun meanwhile, most of {CANCELLED}", max(begun), "", 1)
    yield Figure(f"{what}: median of {CANCELLED}", median(took), "steps", 1)
    yield Figure(f"{what}: longest of {CANCELLED}", max(took), "steps", 1)


async def _run(model: BenchModel, notes: Path) -> list[float]:
    """Returns when each cancellation was asked for."""
    params = EngineParams(str(model.path), context_size=CONTEXT_SIZE, slots=SLOTS, threads=THREADS)
    command = (sys.executable, "-m", "tests.bench.timed_child", str(notes))
    engine = Engine(params, EngineConfig(command=command))
    with trio.fail_after(_TIMEOUT):
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            await engine.wait_ready()
            async with trio.open_nursery() as readers:
                for number in range(SLOTS - 1):
                    readers.start_soon(_generate, engine, number, CONTEXT_SIZE)
                await _generate(engine, SLOTS, STEPS)
                cancelled_at = [
                    await _generate(engine, SLOTS + number, STEPS_BETWEEN) for number in range(CANCELLED)
                ]
                # Two more steps, which show that the last one is gone.
                await _generate(engine, 3 * SLOTS, STEPS_BETWEEN)
                readers.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
            return cancelled_at
    raise AssertionError("the engine ended")


async def _generate(engine: Engine, number: int, pieces: int) -> float:
    """Read so many pieces of an answer, and leave it: returns when."""
    request = GenerateRequest(
        (PromptPart(f"{number} is the number of this story. Once upon a time", parse_special=False),),
        ignore_eos=True,
    )
    async with engine.generate(request) as generation:
        for _ in range(pieces):
            await anext(generation.events)
        return time.perf_counter()


def _whole_steps(decodes: Sequence[Decode]) -> list[tuple[Decode, Decode]]:
    """Each decode of a token for every slot, after another such one."""
    pairs = pairwise(decodes)
    return [pair for pair in pairs if all(each.tokens == SLOTS for each in pair)]


def _step_before(decodes: Sequence[Decode], at: float) -> float:
    """Seconds of the last step that began before."""
    return next(
        later.step_began - earlier.step_began for earlier, later in pairwise(decodes) if later.step_began > at
    )
