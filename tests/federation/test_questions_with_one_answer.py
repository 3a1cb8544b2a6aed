"""Embeddings, ranks and tokens take the same way as text: routed, leased, and asked of another peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk, InferenceRequest, ToolCallDelta
from federation.errors import BadRequest, Failed, ModelUnavailable, TimedOut
from federation.front import Front
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Answered, Stage

WORKER = PeerId("worker")


def embedding(stage: Stage) -> InferenceRequest:
    return stage.request(kind="embeddings", inputs=("one", (1, 2)), is_streamed=False)


def chunks_of(answered: Answered) -> list[Chunk]:
    return [event for event in answered.events if isinstance(event, Chunk)]


def test_a_vector_longer_than_a_frame_arrives_in_pieces(stage: Stage) -> None:
    vectors = (bytes(range(256)) * 100, bytes(4))

    async def main() -> None:
        chunks = tuple(Chunk(number, (), "", vector=vector) for number, vector in enumerate(vectors))
        async with stage.pair(stage.worker(WORKER, chunks=chunks)) as pair:
            answered = await stage.read(pair.remote, embedding(stage))
            assert pair.backend.served[0].inputs == ("one", (1, 2))
            for number, vector in enumerate(vectors):
                mine = [each.vector for each in chunks_of(answered) if each.choice == number]
                assert b"".join(mine) == vector
                assert max(map(len, mine)) <= 4096

    stage.run(main)


def test_the_ids_of_a_long_text_arrive_in_pieces(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, chunks=(Chunk(0, tuple(range(50_000)), ""),))
        async with stage.pair(worker) as pair:
            answered = await stage.read(pair.remote, stage.request(kind="tokenize", is_streamed=False))
            assert sum((each.token_ids for each in chunks_of(answered)), ()) == tuple(range(50_000))

    stage.run(main)


def test_vectors_are_asked_of_nodes_whose_model_gives_them(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.view.show("b", capabilities=("embeddings",))
            swarm.workers["b"].chunks = (Chunk(0, (), "", vector=bytes(4)),)
            for _ in range(10):
                assert (await stage.read(swarm.front, embedding(stage))).answer.served_by == "b"

    stage.run(main)


def test_a_model_that_gives_no_vectors_is_the_wrong_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.view.show("a", capabilities=("chat", "completion"))
            with pytest.raises(BadRequest, match="not a model for embeddings") as refused:
                await stage.read(swarm.front, embedding(stage))
            assert refused.value.param == "model"
            assert swarm.workers["a"].served == []

    stage.run(main)


def test_a_peer_that_fails_at_it_is_replaced_silently(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            for worker in swarm.workers.values():
                swarm.view.show(worker.peer, capabilities=("rerank",))
                worker.chunks = (Chunk(0, (), "", vector=bytes(4)),)
            swarm.workers["a"].refusal = Failed("the engine died")
            for _ in range(10):
                request = stage.request(kind="rerank", inputs=("x",), is_streamed=False)
                assert (await stage.read(swarm.front, request)).answer.served_by == "b"

    stage.run(main)


def test_tokens_are_counted_where_every_slot_is_taken(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, swarm.front.infer(stage.request()):
            with pytest.raises(TimedOut):
                await stage.read(swarm.front, stage.request())
            swarm.workers["a"].chunks = (Chunk(0, (7,), ""),)
            answered = await stage.read(swarm.front, stage.request(kind="tokenize", is_streamed=False))
            assert chunks_of(answered) == [Chunk(0, (7,), "")]
            assert swarm.leased == 1

    stage.run(main)


async def first_of(front: Front, request: InferenceRequest) -> Chunk:
    with trio.fail_after(1):
        async with front.infer(request) as answer:
            event = await anext(answer.events)
            assert isinstance(event, Chunk)
            return event


@pytest.mark.parametrize(
    "content",
    [
        Chunk(0, (1,), "", reasoning="hm"),
        Chunk(0, (1,), "", tool_calls=(ToolCallDelta(0, "c", "f"),)),
        Chunk(0, (1,), "text"),
    ],
)
def test_a_thought_and_a_call_are_content_that_a_client_sees(stage: Stage, content: Chunk) -> None:
    async def main() -> None:
        worker = stage.worker(stage.ME, chunks=(content,), hang_after_chunks=True)
        async with stage.swarm(local=worker) as swarm:
            assert await first_of(swarm.front, stage.request()) == content

    stage.run(main)


@pytest.mark.parametrize(
    "endless",
    [
        Chunk(0, (), "", reasoning="x" * 2**20),
        Chunk(0, (), "", tool_calls=(ToolCallDelta(0, arguments="x" * 2**20),)),
        Chunk(0, (), "", vector=bytes(2**23)),
    ],
)
def test_an_endless_answer_of_any_content_is_not_held(stage: Stage, endless: Chunk) -> None:
    async def main() -> None:
        worker = stage.worker(stage.ME, chunks=(endless,) * 20)
        async with stage.swarm(local=worker) as swarm:
            with pytest.raises(ModelUnavailable, match="longer than any"):
                await stage.read(swarm.front, stage.request(is_streamed=False))

    stage.run(main)
