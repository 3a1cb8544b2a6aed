"""A trace tells where the time of a request went, and adds up to all of it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
import trio

from federation.backend import Chunk, Done, RequestId, Timings, Usage
from federation.errors import Failed, ModelUnavailable, PeerGone, Refused, TimedOut
from federation.trace import Phases, Trace
from ledger.records import AliasRecord, Load, ModelName
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage

TINY, A, B = ModelName("tiny"), PeerId("a"), PeerId("b")


def done(completion_tokens: int = 5) -> Done:
    return Done(("stop",), Usage(3, completion_tokens, 1), Timings())


def served() -> Trace:
    """Queued 1 s of 3, 2 s with somebody who refused, 4 s until it was accepted, then 5 s of prefill."""
    trace = Trace()
    trace.begin(TINY, 100)
    trace.waited(1)
    trace.accept(A, 3, 105, 109)
    trace.first_token(114)
    return trace


def test_the_phases_are_all_the_time_there_was() -> None:
    trace = served()
    assert trace.phases(120) == Phases(queue=1, route=4, connect=4, prefill=5, decode=6)
    trace.end(done(), 122)
    assert trace.phases(999).total == 22


@pytest.mark.parametrize("steps", range(5))
def test_what_goes_no_further_has_taken_its_time_all_the_same(steps: int) -> None:
    trace = Trace()
    trace.begin(TINY, 0)
    if steps > 0:
        trace.waited(1)
    if steps > 1:
        trace.accept(A, 3, 1, 2)
    if steps > 2:
        trace.first_token(3)
    if steps > 3:
        trace.end(done(), 4)
    assert trace.phases(4).total == 4


def test_a_request_that_nobody_began_took_no_time() -> None:
    assert Trace().phases(50) == Phases()


def test_going_on_elsewhere_is_part_of_decode() -> None:
    trace = served()
    trace.stop(2, 116)
    trace.waited(1)
    trace.accept(B, 3, 117, 118)
    trace.resumes += 1
    trace.end(done(), 120)
    assert trace.phases(120) == Phases(queue=1, route=4, connect=4, prefill=5, decode=6)
    assert (trace.peer, trace.tokens) == (B, 5)


def test_what_was_thrown_away_is_part_of_the_way_to_who_served_it() -> None:
    trace = served()
    trace.start_again()
    trace.accept(B, 3, 120, 121)
    trace.first_token(123)
    assert trace.phases(124) == Phases(queue=1, route=19, connect=1, prefill=2, decode=1)


def test_the_pace_is_of_one_choice_of_one_peer() -> None:
    trace = served()
    assert trace.time_per_token(1) is None
    trace.end(done(5), 122)
    assert trace.time_per_token(1) == 2
    trace.tokens = 10
    assert trace.time_per_token(2) == 2
    trace.tokens = 1
    assert trace.time_per_token(1) is None
    trace.tokens, trace.resumes = 5, 1
    assert trace.time_per_token(1) is None


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_front_traces_what_it_does(stage: Stage, is_streamed: bool) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as s:
            for worker in s.workers.values():
                worker.accept_after, worker.gap = 2.0, 1.0
            request = stage.request(is_streamed=is_streamed)
            await stage.read(s.front, request)
            trace = request.trace
            phases = trace.phases(trio.current_time())
            assert (trace.model, trace.peer in ("a", "b"), trace.attempts) == ("tiny", True, 1)
            expected = {"queue": 0, "route": 0, "connect": 2, "prefill": 1, "decode": 2}
            for name, seconds in expected.items():
                assert getattr(phases, name) == pytest.approx(seconds, abs=0.1), name
            assert trace.time_per_token(1) == pytest.approx(1.0, abs=0.1)
            assert trace.done is not None
            assert (trace.done.usage, trace.done.finish_reasons) == (Usage(3, 3), ("stop",))

    stage.run(main)


def test_a_peer_that_says_no_is_an_attempt_and_no_answer(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as s:
            s.workers["a"].refusal = s.workers["b"].refusal = Failed("not today")
            request = stage.request()
            with pytest.raises(Exception, match="not today"):
                await stage.read(s.front, request)
            assert (request.trace.attempts, request.trace.peer, request.trace.done) == (2, None, None)

    stage.run(main)


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        (0, Phases(route=3.5, prefill=3, decode=4)),
        (2, Phases(route=0, prefill=3, decode=5.5)),
    ],
    ids=["before its first word, which was in vain", "after two words, which count"],
)
def test_what_a_dead_peer_did_for_a_whole_answer_is_in_its_phases(
    stage: Stage, words: int, phases: Phases
) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as s:
            for name, worker in s.workers.items():
                s.view.show(name, sha256="f" * 64)
                worker.gaps = iter([3.0, 2.0, 2.0])
            s.view.report("b", Load(4, 3))
            s.workers["a"].hangs_at = words
            request = stage.request(is_streamed=False)

            async def die() -> None:
                await trio.sleep(3.5 if words == 0 else 5.5)
                s.hub.kill(PeerId("a"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(die)
                await stage.read(s.front, request)
            assert request.trace.resumes == 1
            traced = request.trace.phases(trio.current_time())
            assert asdict(traced) == pytest.approx(asdict(phases), abs=0.01)

    stage.run(main)


def test_an_answer_that_goes_on_elsewhere_is_traced_as_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as s:
            for name, worker in s.workers.items():
                s.view.show(name, sha256="f" * 64)
                worker.gap, worker.failure, worker.failure_at = 1.0, PeerGone("gone"), 2
            request = stage.request()
            async with s.front.infer(request) as answer:
                first = answer.served_by
                other = next(each for name, each in s.workers.items() if name != first)
                other.failure = None
                async for _ in answer.events:
                    pass
            trace = request.trace
            assert (trace.peer, trace.attempts, trace.resumes) == (other.peer, 2, 1)
            assert trace.phases(trio.current_time()).decode >= 1.9

    stage.run(main)


def test_waiting_for_a_slot_is_told_from_looking_for_who_has_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as s, trio.open_nursery() as nursery:
            s.workers["a"].gap = 1.0
            requests = [stage.request() for _ in range(2)]
            for request in requests:
                nursery.start_soon(stage.read, s.front, request)
                await trio.sleep(0.5)
            await trio.sleep(10)
            for request, waited in zip(requests, (0, 2.5), strict=True):
                phases = request.trace.phases(trio.current_time())
                assert phases.queue == pytest.approx(waited, abs=0.1)
                assert phases.route == pytest.approx(0, abs=0.1)
                assert phases.total == pytest.approx(3 + waited, abs=0.1)

    stage.run(main)


@pytest.mark.parametrize("leaves", [False, True])
def test_who_waits_in_vain_has_waited(stage: Stage, leaves: bool) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as s:
            s.workers["a"].hangs_at = 1
            async with s.front.infer(stage.request()):
                request = stage.request(timeout=99.0 if leaves else 4.0)
                if leaves:
                    with trio.move_on_after(4.0):
                        await stage.read(s.front, request)
                else:
                    with pytest.raises(TimedOut):
                        await stage.read(s.front, request)
                await trio.sleep(20)
                trace = request.trace
                assert (trace.peer, trace.attempts) == (None, 0)
                phases = trace.phases(trio.current_time())
                assert [phases.queue, phases.total] == pytest.approx([4, 4])

    stage.run(main)


def test_who_was_late_is_part_of_the_way_to_the_faster_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", hedge=1.0) as s:
            s.view.report("b", Load(4, 3))
            for worker in s.workers.values():
                worker.gap = 0.1
            for _ in range(20):
                assert (await stage.read(s.front, stage.request())).answer.served_by == "a"
            s.workers["a"].gap = 5.0
            request = stage.request()
            await stage.read(s.front, request)
            phases = request.trace.phases(trio.current_time())
            assert (request.trace.peer, request.trace.attempts) == ("b", 2)
            assert 0 < phases.route < 0.3
            assert phases.prefill == pytest.approx(0.1, abs=0.05)
            assert phases.decode == pytest.approx(0.2, abs=0.05)

    stage.run(main)


def test_an_alias_is_traced_as_the_model_that_it_stands_for(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as s:
            s.view.named[ModelName("gpt-4")] = AliasRecord(ModelName("gpt-4"), TINY)
            request = stage.request(model="gpt-4")
            await stage.read(s.front, request)
            assert (request.model, request.trace.model) == ("gpt-4", "tiny")

    stage.run(main)


def test_a_client_that_leaves_ends_the_trace(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as s:
            s.workers["a"].gap = 1.0
            request = stage.request()
            async with s.front.infer(request) as answer:
                async for event in answer.events:
                    if isinstance(event, Chunk) and event.text == " two":
                        break
            await trio.sleep(50)
            phases = request.trace.phases(trio.current_time())
            assert phases.total == pytest.approx(2, abs=0.1)
            assert (request.trace.tokens, request.trace.done) == (2, None)

    stage.run(main)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Of what was served to peers."""
    return [record.__dict__ for record in caplog.records if record.getMessage() == "served a peer"]


def test_a_peer_logs_each_request_under_the_id_it_came_with(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="federation")

    async def main() -> None:
        async with stage.swarm("a") as s:
            worker = s.workers["a"]
            await stage.read(s.front, stage.request(request_id=RequestId("trace-7"), prompt="a secret"))
            worker.refusal = Refused("model_failed", "broken")
            with pytest.raises(ModelUnavailable):
                await stage.read(s.front, stage.request(request_id=RequestId("trace-8")))
            worker.refusal, worker.hangs_at = None, 1
            async with s.front.infer(stage.request(request_id=RequestId("trace-9"))):
                pass
            await trio.sleep(1)

    stage.run(main)
    said = lines(caplog)
    assert [(each["request_id"], each["status"]) for each in said] == [
        ("trace-7", "ok"),
        ("trace-8", "model_failed"),
        ("trace-9", "cancelled"),
    ]
    assert (said[0]["front"], said[0]["completion_tokens"], said[0]["finish"]) == ("me", 3, "stop")
    assert said[2]["completion_tokens"] == 1
    assert "secret" not in str(said)
