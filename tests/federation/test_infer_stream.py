"""A request on a stream, from the front's `RemoteBackend` to the worker's `InferServer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk, Done, Progress, Timings, Usage
from federation.errors import (
    BadRequest,
    Busy,
    ContextTooLong,
    DeadlineExceeded,
    Failed,
    FederationError,
    ModelNotFound,
    ModelUnavailable,
    PeerGone,
    RefusalReason,
    Refused,
)
from federation.infer import (
    CREDIT_MAX,
    FRAME_SIZE_MAX,
    PROGRESS_INTERVAL,
    PROTOCOL_ID,
    SILENCE_MAX,
    Accepted,
    Refusal,
)
from federation.infer_client import RemoteBackend
from federation.infer_codec import encode
from p2p.frame_stream import FrameStream
from p2p.network import PeerStream
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Pair, Stage

WORKER = PeerId("worker")


def test_an_answer_arrives_whole(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            answered = await stage.read(p.remote, stage.request())
            assert answered.text == "one two three"
            assert answered.answer.served_by == WORKER
            assert answered.answer.prompt_tokens == 3
            assert isinstance(answered.events[-1], Done)

    stage.run(main)


def test_the_end_of_an_answer_tells_that_its_slot_is_free(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            done = (await stage.read(p.remote, stage.request())).events[-1]
            assert isinstance(done, Done)
            assert done.load is not None
            assert done.load.slots_busy == 0

    stage.run(main)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Busy("full"), "busy"),
        (Refused("draining", "going"), "draining"),
        (Refused("loading", "wait"), "loading"),
        (ModelNotFound("what?"), "no_such_model"),
        (ModelUnavailable("broken"), "model_failed"),
        (Failed("the engine died"), "model_failed"),
        (DeadlineExceeded("too late"), "busy"),
    ],
)
def test_a_refusal_keeps_its_reason(error: FederationError, reason: RefusalReason, stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(stage.worker(WORKER, refusal=error)) as p:
            with pytest.raises(Refused, match=str(error)) as refused:
                await stage.read(p.remote, stage.request())
            assert refused.value.reason == reason
            assert refused.value.load is not None

    stage.run(main)


@pytest.mark.parametrize(
    "error", [BadRequest("no", param="top_k"), ContextTooLong("5 of 4", param="messages")]
)
def test_a_bad_request_stays_one_and_names_its_parameter(error: BadRequest, stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(stage.worker(WORKER, refusal=error)) as p:
            with pytest.raises(type(error), match=str(error)) as bad:
                await stage.read(p.remote, stage.request())
            assert bad.value.param == error.param

    stage.run(main)


def test_a_request_that_proves_impossible_on_the_way_is_no_failure_of_the_peer(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, failure=BadRequest("too complex", param="grammar"), failure_at=1)
        async with stage.pair(worker) as p, p.remote.infer(stage.request()) as answer:
            assert await anext(answer.events) == Chunk(0, (0,), "one")
            with pytest.raises(BadRequest, match="too complex") as bad:
                await anext(answer.events)
            assert bad.value.param == "grammar"

    stage.run(main)


def test_a_failing_engine_ends_the_answer_and_is_no_evidence_against_the_peer(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, failure=Failed("the engine died"), failure_at=2, gap=0.1)
        async with stage.pair(worker) as p:
            async with p.remote.infer(stage.request()) as answer:
                assert await anext(answer.events) == Chunk(0, (0,), "one")
                assert await anext(answer.events) == Chunk(0, (1,), " two")
                with pytest.raises(Failed, match="the engine died") as failed:
                    await anext(answer.events)
            assert type(failed.value) is Failed

    stage.run(main)


def test_a_peer_that_dies_ends_the_answer_at_once(stage: Stage) -> None:
    async def main() -> None:
        async with (
            stage.pair(stage.worker(WORKER, hangs_at=1)) as p,
            p.remote.infer(stage.request()) as answer,
        ):
            assert isinstance(await anext(answer.events), Chunk)
            p.hub.kill(WORKER)
            died_at = trio.current_time()
            with pytest.raises(PeerGone):
                await anext(answer.events)
            assert trio.current_time() - died_at < 0.1

    stage.run(main)


def test_an_answer_that_has_arrived_is_read_to_its_end_although_its_peer_is_gone(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:

            async def answer(stream: PeerStream) -> None:
                frames = FrameStream(stream, FRAME_SIZE_MAX)
                await frames.receive()
                await frames.send(encode(Accepted(bytes(32), 3)))
                for number in range(CREDIT_MAX):
                    await frames.send(encode(Chunk(0, (number,), "a")))
                await frames.send(encode(Done(("stop",), Usage(3, CREDIT_MAX), Timings())))
                await stream.reset()

            p.worker.on_stream(PROTOCOL_ID, answer)
            async with p.remote.infer(stage.request()) as accepted:
                await trio.sleep(1)
                events = [event async for event in accepted.events]
            assert sum(isinstance(event, Chunk) for event in events) == CREDIT_MAX
            assert isinstance(events[-1], Done)

    stage.run(main)


def test_a_long_request_has_the_time_that_a_slow_uplink_takes(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:

            async def read_slowly(stream: PeerStream) -> None:
                frames = FrameStream(stream, FRAME_SIZE_MAX)
                size = 0
                while size < 2_000_000:
                    size += len(await stream.receive_some(32_000))
                    await trio.sleep(0.4)
                await frames.send(encode(Refusal("busy", "it has all of it")))

            p.worker.on_stream(PROTOCOL_ID, read_slowly)
            with pytest.raises(Refused, match="all of it"):
                await stage.read(p.remote, stage.request(prompt="x" * 2_000_000))

    stage.run(main)


@pytest.mark.parametrize("accept_after", [0.0, 30.0])
def test_a_frozen_peer_is_given_up_before_and_after_it_accepted(accept_after: float, stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, hangs_at=1, accept_after=accept_after)
        async with stage.pair(worker) as p, trio.open_nursery() as nursery:
            nursery.start_soon(_freeze_after, 3.0, p)
            with pytest.raises(PeerGone, match="nothing came"):
                await stage.read(p.remote, stage.request())
            assert trio.current_time() < 3.0 + PROGRESS_INTERVAL + SILENCE_MAX

    stage.run(main)


async def _freeze_after(delay: float, p: Pair) -> None:
    await trio.sleep(delay)
    p.hub.freeze(WORKER)


def test_a_model_that_takes_long_to_load_is_waited_for(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(stage.worker(WORKER, accept_after=5 * SILENCE_MAX)) as p:
            assert (await stage.read(p.remote, stage.request())).text == "one two three"

    stage.run(main)


def test_progress_comes_every_second_while_nothing_else_does(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(stage.worker(WORKER, words=("late",), gap=10.5)) as p:
            events = (await stage.read(p.remote, stage.request())).events
            assert sum(isinstance(event, Progress) for event in events) == 10

    stage.run(main)


def test_the_deadline_ends_a_request_at_both_ends(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, hangs_at=1)
        async with stage.pair(worker) as p:
            with pytest.raises(DeadlineExceeded):
                await stage.read(p.remote, stage.request(timeout=7.5))
            assert trio.current_time() == pytest.approx(7.5, abs=0.1)
            await trio.sleep(stage.A_ROUND_TRIP)
            assert worker.running == 0

    stage.run(main)


@pytest.mark.parametrize("hang", ["before_accepting", "before_the_first_word", "between_words"])
def test_a_front_that_leaves_frees_the_slot(hang: str, stage: Stage) -> None:
    places = {
        "before_accepting": {"accept_after": 1e6},
        "before_the_first_word": {"hangs_at": 0},
        "between_words": {"hangs_at": 2},
    }

    async def main() -> None:
        worker = stage.worker(WORKER, **places[hang])  # type: ignore[arg-type]  # fields by name
        async with stage.pair(worker) as p:
            with trio.move_on_after(5):
                await stage.read(p.remote, stage.request())
            await trio.sleep(stage.A_ROUND_TRIP)
            assert len(worker.served) == 1
            assert worker.running == 0

    stage.run(main)


def test_leaving_in_the_middle_frees_the_slot(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, words=("word ",) * 1000, gap=0.1)
        async with stage.pair(worker) as p:
            async with p.remote.infer(stage.request()) as answer:
                await anext(answer.events)
            await trio.sleep(stage.A_ROUND_TRIP)
            assert worker.running == 0
            assert worker.pulled < 10

    stage.run(main)


def test_a_request_that_cannot_travel_is_bad_and_not_the_peers_fault(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            for wrong in (
                {"prompt": "\ud800"},
                {"prompt": "x" * 5_000_000},
                {"max_tokens": -1},
                {"prompt": [2**40]},
            ):
                with pytest.raises(BadRequest):
                    await stage.read(p.remote, stage.request(**wrong))
            assert p.backend.served == []

    stage.run(main)


def test_a_peer_without_a_connection_is_gone(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as p:
            with pytest.raises(PeerGone):
                await stage.read(RemoteBackend(p.front, PeerId("stranger")), stage.request())

    stage.run(main)


def test_a_peer_that_does_not_speak_the_protocol_refuses(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair(serve=False) as p:
            with pytest.raises(Refused) as refused:
                await stage.read(p.remote, stage.request())
            assert refused.value.reason == "no_such_model"

    stage.run(main)


def test_a_backend_that_breaks_ends_its_own_stream_only(stage: Stage) -> None:
    async def main() -> None:
        worker = stage.worker(WORKER, gap=0.1)
        async with stage.pair(worker) as p, p.remote.infer(stage.request()) as answer:
            await anext(answer.events)
            worker.refusal = ZeroDivisionError("a bug")
            with pytest.raises(PeerGone):
                await stage.read(RemoteBackend(p.front, WORKER), stage.request())
            assert len([event async for event in answer.events]) == 3

    stage.run(main)
