"""The front: nobody notices when a peer goes, and nothing is left when a client does."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Chunk, Done, Resumed
from federation.errors import Busy, DeadlineExceeded, Failed, ModelUnavailable
from federation.infer_client import RemoteBackend
from federation.infer_server import InferServer
from ledger.records import Load
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Stage


def test_fifty_requests_while_a_peer_is_killed_between_them_see_no_error(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", "c") as swarm:
            served: Counter[str] = Counter()
            for number in range(50):
                if number == 20:
                    swarm.hub.kill(PeerId("b"))
                answered = await stage.read(swarm.front, stage.request())
                assert answered.text == "one two three"
                served[answered.answer.served_by] += 1
            # The view goes on calling it online here: the front found out by itself, each time.
            assert served["b"] < 20
            assert set(swarm.suspects) == {"b"}

    stage.run(main)


def test_fifty_requests_at_once_while_a_peer_is_killed_see_no_error(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", slots=64) as swarm:
            for worker in swarm.workers.values():
                worker.accept_after = 1.0
            texts: list[str] = []

            async def ask() -> None:
                texts.append((await stage.read(swarm.front, stage.request())).text)

            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(ask)
                await trio.sleep(0.5)
                assert swarm.workers["b"].running == 25
                swarm.hub.kill(PeerId("b"))
            assert texts == ["one two three"] * 50
            assert len(swarm.workers["a"].served) == 50

    stage.run(main)


@pytest.mark.parametrize("place", ["before_accepting", "before_the_first_word"])
def test_a_peer_that_dies_before_the_first_word_is_replaced_silently(place: str, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm, trio.open_nursery() as nursery:
            for worker in swarm.workers.values():
                worker.accept_after = 5.0 if place == "before_accepting" else 0.0
                worker.gap = 5.0

            async def kill_the_first() -> None:
                await trio.sleep(1)
                (name,) = [name for name, worker in swarm.workers.items() if worker.running]
                swarm.hub.kill(PeerId(name))

            nursery.start_soon(kill_the_first)
            answered = await stage.read(swarm.front, stage.request())
            assert answered.text == "one two three"
            assert answered.answer.attempts == 2
            assert swarm.suspects == [name for name in "ab" if name != answered.answer.served_by]

    stage.run(main)


def test_a_first_token_without_text_is_nothing_that_a_client_has_seen(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.view.report("b", Load(4, 3))
            for worker in swarm.workers.values():
                worker.words = ("", "", "\U0001f642")
            swarm.workers["a"].failure, swarm.workers["a"].failure_at = Failed("the engine died"), 2
            answered = await stage.read(swarm.front, stage.request())
            assert (answered.answer.served_by, answered.text) == ("b", "\U0001f642")
            ids = [event.token_ids for event in answered.events if isinstance(event, Chunk)]
            assert sum(ids, ()) == (0, 1, 2)

    stage.run(main)


def test_a_peer_that_dies_in_an_answer_that_is_delivered_whole_is_replaced_silently(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.view.report("b", Load(4, 3))
            swarm.workers["a"].failure, swarm.workers["a"].failure_at = Failed("the engine died"), 2
            answered = await stage.read(swarm.front, replace(stage.request(), is_streamed=False))
            assert (answered.answer.served_by, answered.answer.attempts) == ("b", 2)
            assert answered.text == "one two three"
            ids = [event.token_ids for event in answered.events if isinstance(event, Chunk)]
            assert sum(ids, ()) == (0, 1, 2)

    stage.run(main)


def test_an_answer_without_text_is_not_held_back_for_ever(stage: Stage) -> None:
    async def main() -> None:
        local = stage.worker(stage.ME, words=("",) * 1000, hangs_at=999)
        async with stage.swarm(local=local) as swarm:
            with trio.fail_after(1):
                async with swarm.front.infer(stage.request()) as answer:
                    assert await anext(answer.events) == Chunk(0, (0,), "")

    stage.run(main)


@pytest.mark.parametrize(
    ("word", "tokens_per_word", "is_streamed"),
    [("x" * 2**20, 1, False), ("", 2**20, False), ("", 2**20, True)],
    ids=["text", "tokens", "tokens of a stream"],
)
def test_a_peer_that_sends_without_end_is_given_up_before_it_fills_our_memory(
    word: str, tokens_per_word: int, is_streamed: bool, stage: Stage
) -> None:
    async def main() -> None:
        local = stage.worker(stage.ME, words=(word,) * 50, tokens_per_word=tokens_per_word)
        async with stage.swarm("a", local=local) as swarm:
            swarm.view.report("a", Load(4, 3))
            answered = await stage.read(swarm.front, stage.request(is_streamed=is_streamed))
            assert (answered.answer.served_by, answered.answer.attempts) == ("a", 2)
            assert local.pulled < 10
            assert swarm.suspects == []

    stage.run(main)


def test_a_peer_that_freezes_before_the_first_word_is_replaced_silently(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.view.report("b", Load(4, 3))
            swarm.hub.freeze(PeerId("a"))
            answered = await stage.read(swarm.front, stage.request())
            assert answered.answer.served_by == "b"
            assert swarm.suspects == ["a"]
            assert trio.current_time() == pytest.approx(3.0, abs=0.2)

    stage.run(main)


def test_a_peer_that_dies_after_the_first_word_is_followed_by_another_with_the_same_file(
    stage: Stage,
) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", "c") as swarm:
            for name, worker in swarm.workers.items():
                worker.gap = 0.5
                swarm.view.show(name, sha256=("c" if name == "c" else "a") * 64)
            swarm.view.report("b", Load(4, 2))
            swarm.view.report("c", Load(4, 1))
            async with swarm.front.infer(stage.request()) as answer:
                assert answer.served_by == "a"
                assert await anext(answer.events) == Chunk(0, (0,), "one")
                swarm.hub.kill(answer.served_by)
                assert await anext(answer.events) == Resumed(PeerId("b"), 1)
                assert await anext(answer.events) == Chunk(0, (1,), " two")
                assert await anext(answer.events) == Chunk(0, (2,), " three")
                done = await anext(answer.events)
                assert isinstance(done, Done)
                assert done.usage.completion_tokens == 3
            assert swarm.suspects == ["a"]
            assert swarm.front.counts.resumes == {"b": 1}
            assert swarm.workers["c"].served == []
            (asked,) = swarm.workers["b"].served
            assert asked.model == f"{stage.MODEL}@sha256:{'a' * 64}"

    stage.run(main)


def test_where_the_file_is_not_known_the_answer_ends_with_an_error_that_says_so(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            for worker in swarm.workers.values():
                worker.gap = 1.0
            async with swarm.front.infer(stage.request()) as answer:
                assert await anext(answer.events) == Chunk(0, (0,), "one")
                swarm.hub.kill(answer.served_by)
                with pytest.raises(Failed, match=r"after 1 tokens .* hash of the model's file was not known"):
                    await anext(answer.events)
            assert swarm.suspects == [answer.served_by]

    stage.run(main)


def test_an_engine_that_fails_is_replaced_and_its_peer_not_suspected(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.workers["a"].failure = Failed("the engine died")
            swarm.workers["b"].refusal = ModelUnavailable("failed to load")
            swarm.view.report("b", Load(4, 1))
            with pytest.raises(ModelUnavailable, match="a: the engine died; b: failed to load"):
                await stage.read(swarm.front, stage.request())
            swarm.workers["b"].refusal = None
            answered = await stage.read(swarm.front, stage.request())
            assert (answered.answer.served_by, answered.answer.attempts) == ("b", 2)
            assert swarm.suspects == []

    stage.run(main)


def test_what_a_peer_says_cannot_forge_a_line_of_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.workers["a"].refusal = ModelUnavailable("broken\nall is well \x1b[2J")
            with pytest.raises(ModelUnavailable):
                await stage.read(swarm.front, stage.request())

    with caplog.at_level(logging.INFO, "federation.outcomes"):
        stage.run(main)
    (said,) = caplog.messages
    assert said.isprintable()


def test_the_deadline_holds_over_all_attempts(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", "c") as swarm:
            for worker in swarm.workers.values():
                worker.accept_after, worker.refusal = 4.0, Busy("after all")
            with pytest.raises(DeadlineExceeded):
                await stage.read(swarm.front, stage.request(timeout=10.0))
            assert trio.current_time() == pytest.approx(10.0, abs=0.1)

    stage.run(main)


@pytest.mark.parametrize("local_only", [True, False])
@pytest.mark.parametrize("place", ["before_accepting", "before_the_first_word", "between_words"])
def test_a_client_that_leaves_frees_lease_and_slot_wherever_it_waits(
    place: str, local_only: bool, stage: Stage
) -> None:
    async def main() -> None:
        names = [] if local_only else ["a"]
        local = stage.worker(stage.ME) if local_only else None
        async with stage.swarm(*names, local=local) as swarm:
            (worker,) = swarm.workers.values()
            worker.accept_after = 1e6 if place == "before_accepting" else 0.0
            worker.hangs_at = {"before_the_first_word": 0, "between_words": 2}.get(place)
            with trio.move_on_after(1) as client:
                await stage.read(swarm.front, stage.request())
            assert client.cancelled_caught
            assert len(worker.served) == 1
            assert swarm.leased == 0
            assert swarm.suspects == []

    stage.run(main)


def test_leaving_frees_the_slot_through_two_hops(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm, swarm.hub.network(PeerId("outer")) as outer:
            swarm.workers["a"].words, swarm.workers["a"].gap = ("word ",) * 1000, 0.1
            InferServer(lambda peer: swarm.front, lambda model: None).attach(swarm.network)
            await outer.dial(swarm.network.listen_addresses[0])
            async with RemoteBackend(outer, stage.ME).infer(stage.request()) as answer:
                assert await anext(answer.events) == Chunk(0, (0,), "word ")
                assert swarm.running == 1
            await trio.sleep(stage.A_ROUND_TRIP)
            assert swarm.running == 0
            assert swarm.leased == 0
            assert swarm.workers["a"].pulled <= 2

    stage.run(main)


def test_a_client_that_reads_slowly_stops_its_own_sequence_only(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.workers["a"].words = ("x" * 800,) * 500
            async with swarm.front.infer(stage.request()) as slow:
                await anext(slow.events)
                await trio.sleep(100)
                assert swarm.workers["a"].pulled < 100
                assert len((await stage.read(swarm.front, stage.request())).text) == 500 * 800

    stage.run(main)


MOMENTS = [step * 0.0005 for step in range(40)]
"""Seconds: from before the first byte goes out to after the last one came in."""


def test_a_client_may_leave_at_any_moment(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.workers["a"].gap = 0.003
            outcomes = set()
            for moment in MOMENTS:
                with trio.move_on_after(moment) as client:
                    await stage.read(swarm.front, stage.request())
                outcomes.add(client.cancelled_caught)
                assert swarm.leased == 0
                await trio.sleep(stage.A_ROUND_TRIP)
                assert swarm.running == 0
            assert outcomes == {True, False}

    stage.run(main)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_peer_may_die_at_any_moment(moment: float, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm, trio.open_nursery() as nursery:
            for name in "ab":
                swarm.view.show(name, sha256="a" * 64)
            swarm.view.report("b", Load(4, 3))
            swarm.workers["a"].gap = 0.003

            async def kill() -> None:
                await trio.sleep(moment)
                swarm.hub.kill(PeerId("a"))

            nursery.start_soon(kill)
            answered = await stage.read(swarm.front, stage.request())
            assert answered.text == "one two three"

    stage.run(main)
