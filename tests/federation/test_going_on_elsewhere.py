"""Going on with an answer elsewhere: who is asked, what is waited for, and who may leave meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import (
    Answer,
    AnswerEvent,
    Chunk,
    Done,
    InferenceRequest,
    Resumed,
    Routing,
    Timings,
    Usage,
)
from federation.errors import BadRequest, Failed, ModelUnavailable, Refused
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.records import Load
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage, StubBackend, Swarm

WORDS = tuple("abcdefghij")


@asynccontextmanager
async def peers(stage: Stage, *names: str) -> AsyncIterator[Swarm]:
    """The first is chosen first, then the next; all have one file, and say ten letters in a second."""
    async with stage.swarm(*names) as swarm:
        for busy, (name, worker) in enumerate(swarm.workers.items()):
            swarm.view.show(name, sha256="a" * 64)
            swarm.view.report(name, Load(4, busy))
            worker.words, worker.gap = WORDS, 0.1
        yield swarm


async def read(answer: Answer) -> tuple[str, list[PeerId]]:
    """The text, and who went on with it."""
    events: list[AnswerEvent] = [event async for event in answer.events]
    text = "".join(event.text for event in events if isinstance(event, Chunk))
    return text, [event.served_by for event in events if isinstance(event, Resumed)]


def breaks_off(worker: StubBackend, after: int) -> None:
    worker.failure, worker.failure_at = Failed("the engine died"), after


def test_several_peers_may_die_in_one_answer(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b", "c") as swarm:
            breaks_off(swarm.workers["a"], 2)
            breaks_off(swarm.workers["b"], 5)
            async with swarm.front.infer(stage.request()) as answer:
                assert await read(answer) == ("abcdefghij", ["b", "c"])
            (asked,) = swarm.workers["c"].served
            assert asked.resume is not None
            assert asked.resume.choices[0].token_ids == (0, 1, 2, 3, 4)
            assert swarm.suspects == []

    stage.run(main)


@pytest.mark.parametrize(
    "refusal",
    [
        Refused("resume_mismatch", "other tokens"),
        BadRequest("takes too long to follow", param="resume"),
        Refused("draining", "it is about to stop"),
    ],
    ids=["mismatch", "bad request", "draining"],
)
def test_who_cannot_go_on_is_passed_over_and_not_suspected(refusal: Exception, stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b", "c") as swarm:
            breaks_off(swarm.workers["a"], 2)
            swarm.workers["b"].refusal = refusal
            async with swarm.front.infer(stage.request()) as answer:
                assert await read(answer) == ("abcdefghij", ["c"])
            assert swarm.suspects == []
            assert swarm.front.counts.failures == {PeerId("a"): 1}
            assert swarm.front.counts.refusals == {PeerId("b"): 1}

    stage.run(main)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_one_whose_engine_is_started_again_goes_on_itself(is_streamed: bool, stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a") as swarm:
            worker = swarm.workers["a"]
            breaks_off(worker, 2)

            async def recover() -> None:
                await trio.sleep(0.3)
                worker.failure, worker.refusal = None, ModelUnavailable("its engine crashes")
                await trio.sleep(5.0)
                worker.refusal = None

            async with trio.open_nursery() as nursery:
                nursery.start_soon(recover)
                request = stage.request(is_streamed=is_streamed)
                async with swarm.front.infer(request) as answer:
                    text, resumed = await read(answer)
                assert (text, resumed) == ("abcdefghij", ["a"] if is_streamed else [])

    stage.run(main)


def test_a_stream_waits_for_somebody_who_can_go_on_and_no_longer_than_a_reader_would(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a") as swarm, swarm.front.infer(stage.request()) as answer:
            assert await anext(answer.events) == Chunk(0, (0,), "a")
            swarm.view.show("a", "suspect", sha256="a" * 64)
            swarm.hub.kill(PeerId("a"))
            died_at = trio.current_time()
            with pytest.raises(Failed, match=r"nobody can go on: .* a does not answer"):
                await read(answer)
            assert trio.current_time() - died_at == pytest.approx(30.0, abs=1.0)
            assert [event async for event in answer.events] == []

    stage.run(main)


def test_an_answer_that_is_delivered_whole_begins_anew_where_nobody_can_go_on_with_it(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b") as swarm:
            swarm.view.show("b", sha256="b" * 64)
            swarm.view.report("b", Load(4, 1))
            breaks_off(swarm.workers["a"], 5)
            async with swarm.front.infer(stage.request(is_streamed=False)) as answer:
                assert (answer.served_by, answer.attempts) == ("b", 2)
                assert await read(answer) == ("abcdefghij", [])
            (asked,) = swarm.workers["b"].served
            assert asked.resume is None

    stage.run(main)


def test_an_answer_that_is_delivered_whole_is_held_in_a_few_pieces(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.workers["a"].words, swarm.workers["a"].gap = (" word",) * 500, 0.1
            answered = await stage.read(swarm.front, stage.request(is_streamed=False))
            chunks = [event for event in answered.events if isinstance(event, Chunk)]
            assert answered.text == " word" * 500
            assert [id_ for chunk in chunks for id_ in chunk.token_ids] == list(range(500))
            assert len(chunks) < 10

    stage.run(main)


def test_a_lying_peer_is_not_gone_on_with_where_nothing_was_delivered(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b") as swarm:
            swarm.workers["a"].words = ("x" * 2**20,) * 50
            async with swarm.front.infer(stage.request(is_streamed=False)) as answer:
                assert await read(answer) == ("abcdefghij", [])

    stage.run(main)


MOMENTS = [step * 0.05 for step in range(30)]
"""Seconds after the seam, of which the first is spent on waiting to be accepted."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_client_may_leave_while_another_peer_goes_on(moment: float, stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b") as swarm:
            breaks_off(swarm.workers["a"], 1)
            swarm.workers["b"].accept_after = 1.0
            with trio.move_on_after(0.1 + moment) as client:
                async with swarm.front.infer(stage.request()) as answer:
                    await read(answer)
            assert client.cancelled_caught
            assert swarm.leased == 0
            await trio.sleep(stage.A_ROUND_TRIP)
            assert swarm.running == 0

    stage.run(main)


def test_leaving_while_another_peer_goes_on_frees_the_slot_through_two_hops(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b") as swarm, swarm.hub.network(PeerId("outer")) as outer:
            breaks_off(swarm.workers["a"], 1)
            swarm.workers["b"].accept_after = 5.0
            InferServer(lambda peer: swarm.front, lambda model: None).attach(swarm.network)
            await outer.dial(swarm.network.listen_addresses[0])
            async with RemoteBackend(outer, stage.ME).infer(stage.request()) as answer:
                assert await anext(answer.events) == Chunk(0, (0,), "a")
                await trio.sleep(1.0)
                assert swarm.workers["b"].running == 1
            await trio.sleep(stage.A_ROUND_TRIP)
            assert swarm.running == 0
            assert swarm.leased == 0

    stage.run(main)


def test_what_goes_on_can_itself_be_gone_on_with_through_two_hops(stage: Stage) -> None:
    async def main() -> None:
        async with peers(stage, "a", "b") as swarm, swarm.hub.network(PeerId("outer")) as outer:
            breaks_off(swarm.workers["a"], 3)
            InferServer(lambda peer: swarm.front, lambda model: None).attach(swarm.network)
            await outer.dial(swarm.network.listen_addresses[0])
            answered = await stage.read(RemoteBackend(outer, stage.ME), stage.request())
            assert answered.text == "abcdefghij"

    stage.run(main)


class Plain:
    """A server of another program: tells no token ids, and breaks off after two words of its first answer."""

    def __init__(self, peer: PeerId, asked: list[InferenceRequest]) -> None:
        self._peer = peer
        self._asked = asked

    @asynccontextmanager
    async def infer(self, request: InferenceRequest) -> AsyncIterator[Answer]:
        self._asked.append(request)
        await trio.lowlevel.checkpoint()
        events = self._events(str(request.prompt), breaks_off=len(self._asked) == 1)
        async with aclosing(events):
            yield Answer(self._peer, bytes(32), 0, events)

    async def _events(self, prompt: str, *, breaks_off: bool) -> AsyncGenerator[AnswerEvent]:
        words = ["one", " two", " three", " four"]
        said = [word for word in words if word not in prompt]
        for number, word in enumerate(said):
            await trio.lowlevel.checkpoint()
            if breaks_off and number == 2:
                raise Failed("it closed the connection")
            yield Chunk(0, (), word)
        yield Done(("stop",), Usage(len(words), len(said)), Timings())


@pytest.mark.parametrize("allowed", [True, False])
def test_by_text_another_server_goes_on_if_the_client_allows_it(allowed: bool, stage: Stage) -> None:
    async def main() -> None:
        asked: list[InferenceRequest] = []
        async with stage.swarm("a", "b") as swarm:
            swarm.front._sources.backends.remote = lambda peer: Plain(peer, asked)
            routing = Routing(resumes_by_text=allowed)
            request = stage.request(prompt="Count: ", max_tokens=9, routing=routing)
            async with swarm.front.infer(request) as answer:
                if allowed:
                    text, resumed = await read(answer)
                    assert (text, len(resumed)) == ("one two three four", 1)
                    assert (asked[1].prompt, asked[1].max_tokens) == ("Count: one two", 7)
                else:
                    with pytest.raises(Failed, match="did not allow"):
                        await read(answer)
                    assert len(asked) == 1

    stage.run(main)
