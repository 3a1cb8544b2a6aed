"""A peer that says without end that it is at work, and comes no further, is left; one that is slow is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, cycle, repeat
from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.errors import Failed, PeerGone
from federation.infer import FRAME_SIZE_MAX, PROTOCOL_ID, Accepted, Request, WorkerMessage
from federation.infer_codec import encode
from federation.infer_server import InferServer
from ledger.records import ModelName
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream

if TYPE_CHECKING:
    from tests.federation.conftest import Pair, Stage

ACCEPTED = Accepted(bytes(32), 3)
STILL = Progress(3, 900)
DONE = Done(("stop",), Usage(1, 1), Timings())


def say_each_second(p: Pair, said: Iterator[WorkerMessage]) -> None:
    """Have the worker say the next of `said` every second, until it was cut off."""

    async def answer(stream: PeerStream) -> None:
        frames = FrameStream(stream, FRAME_SIZE_MAX)
        await frames.receive()
        for message in said:
            try:
                await frames.send(encode(message))
            except trio.BrokenResourceError:
                return
            await trio.sleep(1)

    p.worker.on_stream(PROTOCOL_ID, answer)


@pytest.mark.parametrize(
    "said",
    [
        repeat(STILL),
        chain([ACCEPTED], repeat(STILL)),
        chain([ACCEPTED], cycle([STILL, Progress(0, 900)])),
        chain([ACCEPTED], cycle([STILL, *[Chunk(0, (), "")] * 9])),
        chain([ACCEPTED, Chunk(0, (1,), "a")], repeat(STILL)),
    ],
    ids=["before it accepts", "after that", "in two values", "in empty chunks", "after a token"],
)
def test_one_that_stands_still_is_left_after_five_minutes(
    said: Iterator[WorkerMessage], stage: Stage
) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            say_each_second(p, said)
            asked_at = trio.current_time()
            with pytest.raises(Failed, match="no further") as failed:
                await stage.read(p.remote, stage.request(timeout=86_400.0))
            assert trio.current_time() - asked_at == pytest.approx(300, abs=10)
            assert not isinstance(failed.value, PeerGone), "it is no evidence that the machine is dead"

    stage.run(main)


@pytest.mark.parametrize(
    "said",
    [
        chain((Progress(each, 1000) for each in range(1000)), [ACCEPTED, Chunk(0, (1,), "a"), DONE]),
        chain([ACCEPTED], (Progress(each // 200, 9) for each in range(1800)), [Chunk(0, (1,), "a"), DONE]),
        chain(repeat(STILL, 290), [ACCEPTED], repeat(STILL, 290), [Chunk(0, (1,), "a"), DONE]),
    ],
    ids=["loads a large model", "reads a long prompt beside others", "needs five minutes twice"],
)
def test_one_that_comes_further_is_waited_for(said: Iterator[WorkerMessage], stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            say_each_second(p, said)
            assert (await stage.read(p.remote, stage.request(timeout=86_400.0))).text == "a"

    stage.run(main)


def test_a_long_prompt_of_which_nobody_tells_how_much_is_read_may_take_longer(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            say_each_second(p, chain([ACCEPTED], repeat(Progress(0, 0), 900), [Chunk(0, (1,), "a"), DONE]))
            request = stage.request(prompt="x" * 100_000, timeout=86_400.0)
            assert (await stage.read(p.remote, request)).text == "a"

    stage.run(main)


def test_who_reads_slowly_makes_no_peer_stand_still(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            say_each_second(p, chain([ACCEPTED], repeat(STILL, 250), [Chunk(0, (1,), "a"), DONE]))
            text = ""
            async with p.remote.infer(stage.request(timeout=86_400.0)) as answer:
                async for event in answer.events:
                    await trio.sleep(20)
                    text += event.text if isinstance(event, Chunk) else ""
            assert text == "a"

    stage.run(main)


def test_a_worker_shows_how_far_a_model_is_loaded_until_it_accepts(stage: Stage) -> None:
    async def main() -> None:
        loaded = count(1)
        async with stage.pair(stage.worker(stage.WORKER, accept_after=3.5, gap=2.5), serve=False) as p:

            def loading() -> dict[ModelName, float]:
                return {stage.MODEL: next(loaded) / 10}

            InferServer(lambda peer: p.backend, p.backend.load, loading).attach(p.worker)
            said: list[tuple[int, int | None, int | None]] = []
            stream = await p.front.open_stream(stage.WORKER, PROTOCOL_ID)
            async with FrameStream(stream, FRAME_SIZE_MAX) as frames:
                await frames.send(encode(Request(stage.request())))
                while len(said) < 6 and (values := await frames.receive()) is not None:
                    said.append((values["kind"], values.get("prefilled"), values.get("total")))
            # PROGRESS while it loads, ACCEPTED, and PROGRESS of the prompt.
            assert said[:3] == [(4, 100, 1000), (4, 200, 1000), (4, 300, 1000)]
            assert said[3:] == [(2, None, None), (4, 0, 3), (4, 0, 3)]

    stage.run(main)
