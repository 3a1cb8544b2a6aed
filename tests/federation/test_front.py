"""The front: who is asked, and what the client is told when nobody can serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from federation.backend import Routing
from federation.errors import (
    BadRequest,
    ContextTooLong,
    ModelNotFound,
    ModelUnavailable,
    PeerGone,
    Refused,
    TimedOut,
)
from ledger.records import AliasRecord, Load, ModelName
from ledger.view import NodeState
from tests.answers import check_no_scope_stays_open

if TYPE_CHECKING:
    from tests.federation.conftest import Stage


def test_the_local_worker_is_asked_like_any_other_and_never_suspected(stage: Stage) -> None:
    async def main() -> None:
        local = stage.worker(stage.ME, failure=PeerGone("odd, but possible"))
        async with stage.swarm("a", local=local) as swarm:
            swarm.view.report("a", Load(4, 1))
            answered = await stage.read(swarm.front, stage.request())
            assert (answered.answer.served_by, answered.answer.attempts) == ("a", 2)
            assert len(local.served) == 1
            assert swarm.suspects == []
            local.failure = None
            here = stage.request(routing=Routing(only=("me",)))
            assert (await stage.read(swarm.front, here)).answer.served_by == stage.ME

    stage.run(main)


def test_a_node_without_a_worker_serves_what_the_others_have(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.view.show("me")
            assert [model.name for model in swarm.front.models()] == [stage.MODEL]
            for _ in range(10):
                assert (await stage.read(swarm.front, stage.request())).answer.served_by == "a"

    stage.run(main)


def test_a_burst_is_spread_before_any_peer_reports(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", "c", "d") as swarm:
            for worker in swarm.workers.values():
                worker.gap = 1.0
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(stage.read, swarm.front, stage.request())
                await trio.sleep(0.5)
                assert [worker.running for worker in swarm.workers.values()] == [4, 4, 4, 4]

    stage.run(main)


def test_a_hash_is_served_only_where_the_file_has_it_and_takes_the_same_slots(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", slots=1) as swarm:
            swarm.view.show("a", sha256="a" * 64)
            swarm.view.show("b", sha256="b" * 64)
            request = stage.request(model=ModelName(f"{stage.MODEL}@sha256:{'b' * 64}"))
            async with swarm.front.infer(request) as answer:
                assert answer.served_by == "b"
                assert (await stage.read(swarm.front, stage.request())).answer.served_by == "a"
                with pytest.raises(TimedOut):
                    await stage.read(swarm.front, request)
            with pytest.raises(ModelNotFound):
                await stage.read(
                    swarm.front, stage.request(model=ModelName(f"{stage.MODEL}@sha256:{'c' * 64}"))
                )

    stage.run(main)


def test_when_our_own_leases_fill_every_slot_nobody_is_asked(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm:
            swarm.workers["a"].gap = 1.0
            async with swarm.front.infer(stage.request()):
                with pytest.raises(TimedOut):
                    await stage.read(swarm.front, stage.request(timeout=60.0))
            assert len(swarm.workers["a"].served) == 1
            # Free at once, although nobody has reported anything since.
            assert (await stage.read(swarm.front, stage.request())).text == "one two three"

    stage.run(main)


def test_an_old_report_of_a_full_peer_does_not_refuse_a_client(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.view.report("a", Load(4, 4))
            assert (await stage.read(swarm.front, stage.request())).text == "one two three"

    stage.run(main)


def test_a_peer_that_has_lost_the_model_costs_one_try(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.workers["a"].refusal = ModelNotFound("removed a moment ago")
            swarm.view.report("b", Load(4, 1))
            answered = await stage.read(swarm.front, stage.request())
            assert (answered.answer.served_by, answered.answer.attempts) == ("b", 2)

    stage.run(main)


@pytest.mark.parametrize("error", [BadRequest("no", param="top_k"), ContextTooLong("5 of 4")])
def test_a_bad_request_is_not_tried_elsewhere(error: BadRequest, stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            for worker in swarm.workers.values():
                worker.refusal = error
            with pytest.raises(type(error)):
                await stage.read(swarm.front, stage.request())
            assert sum(len(worker.served) for worker in swarm.workers.values()) == 1

    stage.run(main)


def test_a_model_nobody_has_is_not_found(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            with pytest.raises(ModelNotFound, match="serves large; there is tiny"):
                await stage.read(swarm.front, stage.request(model=ModelName("large")))

    stage.run(main)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("draining", "a is about to stop"),
        ("suspect", "a does not answer"),
        ("offline", "a has it and is offline"),
    ],
)
def test_only_online_peers_are_asked_and_the_client_hears_of_the_others(
    state: NodeState, reason: str, stage: Stage
) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            swarm.view.show("a", state)
            with pytest.raises(ModelUnavailable, match=reason):
                await stage.read(swarm.front, stage.request())
            assert swarm.workers["a"].served == []
            assert list(swarm.front.models()) == []

    stage.run(main)


def test_answers_of_a_front_are_left_in_any_order(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", local=stage.worker(stage.ME)) as swarm:
            await check_no_scope_stays_open(swarm.front, stage.request())

    stage.run(main)


def test_answers_of_a_peer_are_left_in_any_order(stage: Stage) -> None:
    async def main() -> None:
        async with stage.pair() as pair:
            await check_no_scope_stays_open(pair.remote, stage.request())

    stage.run(main)


def test_an_alias_is_served_by_its_model_where_the_alias_wants_it(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            alias = ModelName("fast")
            swarm.view.named[alias] = AliasRecord(alias, stage.MODEL, {"only": ["b"]})
            for _ in range(3):
                answered = await stage.read(swarm.front, stage.request(model=alias))
                assert answered.answer.served_by == "b"
            assert {request.model for request in swarm.workers["b"].served} == {stage.MODEL}
            assert [model.name for model in swarm.front.models()] == ["fast", "tiny"]

    stage.run(main)


def test_who_was_slow_is_spared(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("slow", "fast") as swarm:
            swarm.workers["slow"].gap, swarm.workers["fast"].gap = 0.5, 0.01
            for name in ("slow", "fast"):
                await stage.read(swarm.front, stage.request(routing=Routing(only=(name,))))
            served = [(await stage.read(swarm.front, stage.request())).answer.served_by for _ in range(5)]
            assert served == ["fast"] * 5

    stage.run(main)


def test_a_peer_that_keeps_failing_is_left_alone_and_then_tried_again(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm:
            worker = swarm.workers["a"]
            worker.refusal = Refused("model_failed", "oh")
            for _ in range(3):
                with pytest.raises(ModelUnavailable):
                    await stage.read(swarm.front, stage.request())
            explained = swarm.front.explain(stage.request())
            assert explained["excluded"][0]["why"].startswith("a failed 3 times in a row")
            # The next one waits for its turn to try.
            worker.refusal, asked = None, len(worker.served)
            began_at = trio.current_time()
            await stage.read(swarm.front, stage.request())
            assert len(worker.served) == asked + 1
            assert trio.current_time() - began_at >= 0.9

    stage.run(main)


def test_where_a_request_would_go_is_explained_in_words(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("slow", "fast") as swarm:
            swarm.view.report("slow", Load(4, 0, decode_speed=5.0))
            swarm.view.report("fast", Load(4, 0, decode_speed=50.0))
            swarm.view.show("gone", "offline")
            said = swarm.front.explain(stage.request(max_tokens=100, ignore_eos=True))
            assert (said["model"], said["policy"], said["chosen"]) == ("tiny", "eta", "fast")
            assert said["because"].startswith("fast would be done first: in 2.")
            assert [row["node"] for row in said["candidates"]] == ["fast", "slow"]
            terms = {term["term"]: term["seconds"] for term in said["candidates"][0]["terms"]}
            assert terms["decode"] == pytest.approx(2.0)
            assert all(term["why"] for term in said["candidates"][0]["terms"])
            assert said["excluded"] == [{"node": "gone", "id": "gone", "why": "gone has it and is offline"}]
            with pytest.raises(ModelNotFound):
                swarm.front.explain(stage.request(model="nobody"))

    stage.run(main)


def test_nothing_is_kept_of_a_peer_that_has_left_the_swarm(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b") as swarm:
            swarm.view.show("b", "offline")
            assert (await stage.read(swarm.front, stage.request())).answer.served_by == "a"
            del swarm.view.rows["a"]
            swarm.view.show("b")
            assert (await stage.read(swarm.front, stage.request())).answer.served_by == "b"
            assert list(swarm.front._sources.backends._remotes) == ["b"]

    stage.run(main)
