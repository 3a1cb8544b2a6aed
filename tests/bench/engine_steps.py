"""Inside the engine process: what of a step is Python's, and how soon a cancelled request is out of it.

Sixteen generations in one engine without a node around it; its child notes when llama.cpp computes
(`timed_child.py`). A step lasts from the end of one `llama_decode` to the end of the next.
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
from tests.bench.timed_child import Decode, read_decodes

STEPS = 100
CANCELLED = 10
STEPS_BETWEEN = 5
_TIMEOUT = 300.0


def measure_steps(model: BenchModel, folder: Path) -> Iterator[Figure]:
    """A run of steps in which all slots decode, and then cancellations."""
    notes = folder / "decodes"
    cancelled_at = trio.run(_run, model, notes)
    decodes = read_decodes(notes)
    whole = _whole_steps(decodes)
    outside = sum(later.began - earlier.ended for earlier, later in whole)
    total = sum(later.ended - earlier.ended for earlier, later in whole)
    step = median(later.ended - earlier.ended for earlier, later in whole)
    what = f"{model.name}, a step of {SLOTS} streams"
    yield Figure(what, step * 1000, "ms")
    yield Figure(f"{what}: outside of llama_decode", 100 * outside / total, "%", 8)
    carried = [_carried_after(decodes, at) for at in cancelled_at]
    freed = [_freed_after(decodes, at) / step for at in cancelled_at]
    what = f"{model.name}, cancelled until it is out of the engine"
    yield Figure(f"{what}: steps begun meanwhile, most of {CANCELLED}", max(carried), "", 1)
    yield Figure(f"{what}: median of {CANCELLED}", median(freed), "steps", 1)
    yield Figure(f"{what}: longest of {CANCELLED}", max(freed), "steps")


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


def _carried_after(decodes: Sequence[Decode], cancelled_at: float) -> int:
    """Steps begun after that with the cancelled request in them, until a prompt is read in its place."""
    begun = [decode for decode in decodes if decode.began > cancelled_at]
    return next(number for number, decode in enumerate(begun) if decode.tokens != SLOTS)


def _freed_after(decodes: Sequence[Decode], cancelled_at: float) -> float:
    """Seconds until the first step without it begins."""
    return (
        next(each.began for each in decodes if each.began > cancelled_at and each.tokens != SLOTS)
        - cancelled_at
    )
