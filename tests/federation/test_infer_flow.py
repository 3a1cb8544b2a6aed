"""Flow on an infer stream: credit, merging, and one stream for many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk
from federation.errors import Busy, Refused
from federation.infer import CREDIT_MAX
from federation.infer_server import InferServer
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage

WORKER = PeerId("worker")


def test_a_slow_reader_stops_its_own_sequence_only(stage: Stage) -> None:
    async def main() -> None:
        # Words too long to be merged: each is a chunk of its own.
        worker = stage.worker(WORKER, words=("x" * 800,) * 500)
        async with stage.pair(worker) as p, p.remote.infer(stage.request()) as answer:
            await anext(answer.events)
            await trio.sleep(300)
            # Under way, in the channel, in the sender's and in the puller's hands.
            assert worker.pulled <= CREDIT_MAX + 32 + 3
            assert len((await stage.read(p.remote, stage.request())).text) == 500 * 800
            rest = [event async for event in answer.events]
            assert sum(isinstance(event, Chunk) for event in rest) == 499

    stage.run(main)


def test_tokens_that_wait_are_sent_as_one_chunk(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, words=tuple(f"{number} " for number in range(2000)), gap=0.01)
        async with stage.pair(worker) as p, p.remote.infer(stage.request()) as answer:
            await trio.sleep(60)
            chunks = [event async for event in answer.events if isinstance(event, Chunk)]
            assert "".join(chunk.text for chunk in chunks) == "".join(worker.words)
            assert [token for chunk in chunks for token in chunk.token_ids] == list(range(2000))
            assert max(len(chunk.token_ids) for chunk in chunks) > 16

    stage.run(main)


def test_one_stream_serves_request_after_request(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, words=tuple("abcdefgh") * 20, gap=0.01)
        async with stage.pair(worker) as p:
            for _ in range(5):
                assert (await stage.read(p.remote, stage.request())).text == "".join(worker.words)
            assert p.streams.opened == 1

    stage.run(main)


def test_a_refusal_does_not_cost_the_stream(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, refusal=Busy("full"))
        async with stage.pair(worker) as p:
            with pytest.raises(Refused):
                await stage.read(p.remote, stage.request())
            worker.refusal = None
            assert (await stage.read(p.remote, stage.request())).text == "one two three"
            assert p.streams.opened == 1

    stage.run(main)


def test_a_kept_stream_that_died_unseen_costs_the_request_nothing(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            await stage.read(p.remote, stage.request())
            p.hub.kill(WORKER)
            await trio.sleep(stage.A_ROUND_TRIP)
            async with p.hub.network(WORKER) as restarted:
                InferServer(lambda peer: p.backend, p.backend.load).attach(restarted)
                await p.front.dial(restarted.listen_addresses[0])
                assert (await stage.read(p.remote, stage.request())).text == "one two three"

    stage.run(main)


def test_four_streams_are_kept_and_not_for_ever(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(stage.worker(WORKER, gap=0.1)) as p:
            for opened in (12, 12 + 12 - 4):
                async with trio.open_nursery() as nursery:
                    for _ in range(12):
                        nursery.start_soon(stage.read, p.remote, stage.request())
                assert p.streams.opened == opened
            await trio.sleep(3600)
            await stage.read(p.remote, stage.request())
            assert p.streams.opened == opened + 1

    stage.run(main)
