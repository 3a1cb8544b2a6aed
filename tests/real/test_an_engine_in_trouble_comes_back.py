"""The real engine, hit at exact moments: what that costs, and how it comes back.

It crashes by SIGSEGV, hangs by SIGSTOP, and grows by itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from federation.backend import Chunk, InferenceRequest, RequestId
from federation.errors import Failed, Refused
from ledger.records import ModelName
from node.engine.engine import Engine, EngineConfig
from node.engine.errors import EngineFailed, EngineUnavailable
from node.engine.generation import Generation
from node.engine.supervisor import RestartConfig
from node.engine.watchdog import WatchdogConfig
from node.engine.wire import UNREAD_TOKENS_MAX, EngineParams, FilledSampling, GenerateRequest, PromptPart
from node.models.catalog import Catalog
from node.models.demo_model import DEMO_MODEL_NAME, find_demo_model
from node.store.store import Store
from node.worker import Worker
from p2p.peer import PeerId

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no signals"),
]

CHILD = Path(__file__).parent / "faulty_child.py"
ECHO = (sys.executable, str(Path(__file__).parents[1] / "node" / "engine" / "echo_child.py"))
NO_DELAY = RestartConfig(delay_first=0.0, delay_failed=0.01)
IMPATIENT = WatchdogConfig(
    interval=0.1,
    # Where ten programs want two cores, a healthy child is silent for 4.5 s while it imports llama.cpp.
    starting=8.0,
    starting_speed=math.inf,
    working=2.5,
    working_speed=math.inf,
    steps=0.0,
)


def config(folder: Path, *, watchdog: WatchdogConfig | None = None) -> EngineConfig:
    return EngineConfig((sys.executable, str(CHILD), str(folder)), NO_DELAY, watchdog or WatchdogConfig())


def params(*, memory_max: int = 0) -> EngineParams:
    return EngineParams(str(find_demo_model()), context_size=1024, slots=2, threads=2, memory_max=memory_max)


def arm(folder: Path, moment: str, *faults: str) -> None:
    (folder / moment).write_text(" ".join(faults))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(60):
            await test()

    trio.run(bounded)


@asynccontextmanager
async def running(*engines: Engine) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for engine in engines:
            await nursery.start(engine.run)
        yield
        nursery.cancel_scope.cancel()


class Watched:
    """An engine whose changes can be waited for."""

    def __init__(self, params: EngineParams, config: EngineConfig) -> None:
        self.reasons: list[str] = []
        """Why it was not ready, each time."""
        self._changed = trio.Event()
        self.engine = Engine(params, config, self._note)

    def _note(self) -> None:
        if self.engine.reason and self.engine.reason not in self.reasons[-1:]:
            self.reasons.append(self.engine.reason)
        self._changed.set()
        self._changed = trio.Event()

    async def change(self) -> None:
        await self._changed.wait()


def words(count: int = 4, *, word: str = "word", max_tokens: int | None = 8) -> GenerateRequest:
    return GenerateRequest(
        (PromptPart(f"{word} " * count, parse_special=False),),
        FilledSampling(temperature=0),
        max_tokens,
        ignore_eos=True,
    )


async def tokens(generation: Generation) -> int:
    return sum([len(event.token_ids) async for event in generation.events if isinstance(event, Chunk)])


async def assert_goes_on(generation: Generation) -> None:
    """More comes than can have been under way."""
    read = 0
    while read <= UNREAD_TOKENS_MAX:
        event = await anext(generation.events)
        read += len(event.token_ids) if isinstance(event, Chunk) else 0


async def assert_answers(engine: Engine) -> None:
    await engine.wait_ready()
    assert engine.slots_busy == 0
    async with engine.generate(words()) as generation:
        assert await tokens(generation) == 8


def test_one_that_does_not_get_ready_is_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched(params(), config(tmp_path, watchdog=IMPATIENT))
        arm(tmp_path, "load", "SIGSEGV", "SIGSTOP")
        # The last one: after it nothing is left but to do without what makes some machines crash there.
        arm(tmp_path, "self_test", "SIGSEGV")
        async with running(watched.engine):
            await assert_answers(watched.engine)
        assert watched.reasons[:3] == [
            "the engine was ended by SIGSEGV",
            "the engine was stuck: it said nothing for 8 s while it was starting",
            "the engine was ended by SIGSEGV",
        ]

    run(main)


def test_one_that_ends_at_work_fails_its_own_requests_alone(tmp_path: Path) -> None:
    async def main() -> None:
        engine = Engine(params(), config(tmp_path, watchdog=IMPATIENT))
        neighbour = Engine(params(), EngineConfig(ECHO))
        async with running(engine, neighbour):
            await neighbour.wait_ready()
            for moment, fault, reason in (
                ("prefill", "SIGSEGV", "was ended by SIGSEGV"),
                ("decode", "SIGSEGV", "was ended by SIGSEGV"),
                ("decode", "SIGSTOP", r"was stuck: it said nothing for \d s while it had work"),
            ):
                await engine.wait_ready()
                async with (
                    neighbour.generate(words(max_tokens=None)) as spared,
                    engine.generate(words(100, max_tokens=None)) as first,
                    # Not the same word: it would find the first one's beginning and have nothing to read.
                    engine.generate(words(60, word="another", max_tokens=None)) as second,
                ):
                    arm(tmp_path, moment, fault)
                    for generation in (first, second):
                        with pytest.raises(EngineFailed, match=reason):
                            await tokens(generation)
                    await assert_goes_on(spared)
                await assert_answers(engine)

    run(main)


def test_crashes_without_end_are_a_failed_model_that_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched(params(), config(tmp_path))
        arm(tmp_path, "load", *["SIGSEGV"] * 3)
        async with running(watched.engine):
            with pytest.raises(EngineUnavailable, match=r"ended by SIGSEGV, 3 times in a row"):
                await watched.engine.wait_ready()
            while watched.engine.state == "failed":
                await watched.change()
            await assert_answers(watched.engine)

    run(main)


def test_one_that_needs_too_much_memory_again_is_a_failed_model(tmp_path: Path) -> None:
    async def main() -> None:
        watched = Watched(params(memory_max=50 * 2**20), config(tmp_path, watchdog=IMPATIENT))
        async with running(watched.engine):
            while watched.engine.state != "failed":
                await watched.change()
            assert watched.engine.reason == (
                "the engine needed more memory than 0.05 GiB (--engine-memory), 2 times in a row"
            )

    run(main)


async def answered(worker: Worker, request: InferenceRequest) -> str:
    async with worker.infer(request) as answer:
        return "".join([event.text async for event in answer.events if isinstance(event, Chunk)])


def test_a_peer_is_told_whether_it_may_ask_another_or_has_to_resume(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "models", memory_bytes=2**40)
    preload = catalog.read(["demo"])
    worker = Worker(
        PeerId("me"),
        catalog.definitions.values(),
        store=Store(hashes=tmp_path / "hashes", manifests=tmp_path / "manifests"),
        preload=preload,
        make_engine=lambda params, on_change: Engine(params, config(tmp_path), on_change),
    )
    request = InferenceRequest(
        "completion", RequestId("r1"), ModelName(DEMO_MODEL_NAME), prompt="The dog and", max_tokens=8
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            arm(tmp_path, "tokenize", "SIGSEGV")
            with pytest.raises(Refused, match="SIGSEGV") as refused:
                await answered(worker, request)
            assert refused.value.reason == "model_failed"
            arm(tmp_path, "decode", "SIGSEGV")
            with pytest.raises(Failed, match="SIGSEGV"):
                await answered(worker, request)
            assert await answered(worker, request)
            nursery.cancel_scope.cancel()

    run(main)
