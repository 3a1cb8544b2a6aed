"""A front whose peers are all taken: its requests wait for news of them, and nobody is asked in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from federation.backend import Chunk, Routing
from federation.errors import Busy, ModelUnavailable, Refused, TimedOut
from federation.prospects import RETURN_MAX
from federation.slot_gate import REMEMBERED_FOR
from federation.trace import Trace
from ledger.records import Load
from p2p.peer import PeerId

if TYPE_CHECKING:
    from tests.federation.conftest import Answered, Stage, Swarm


class Asked:
    """Requests that were sent off, and when they were answered."""

    def __init__(self, stage: Stage, swarm: Swarm, nursery: trio.Nursery) -> None:
        self._stage = stage
        self._swarm = swarm
        self._nursery = nursery
        self._begun = trio.current_time()
        self.answers: list[Answered] = []
        self.failures: list[Exception] = []
        self.at: list[float] = []

    def send(self, **changes: object) -> None:
        self._nursery.start_soon(self._send, changes)

    async def _send(self, changes: dict[str, object]) -> None:
        try:
            answered = await self._stage.read(self._swarm.front, self._stage.request(**changes))
        except (Busy, TimedOut, ModelUnavailable) as error:
            self.failures.append(error)
        else:
            self.answers.append(answered)
        self.at.append(trio.current_time() - self._begun)


def test_who_waits_gets_the_slot_that_frees_and_is_told_how_it_waited(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, trio.open_nursery() as nursery:
            swarm.workers["a"].gap = 1.0
            asked = Asked(stage, swarm, nursery)
            traces = [Trace() for _ in range(4)]
            for trace in traces:
                asked.send(trace=trace)
                await trio.sleep(0.1)
            assert [trace.position for trace in traces] == [None, 0, 1, 2]
            assert swarm.front.waiting()[stage.MODEL].waiting == 3
            await trio.sleep(12)
            assert [each.answer.queued.position for each in asked.answers] == [0, 0, 1, 2]
            # Nobody knew how long that takes before the first one was over.
            assert [each.answer.queued.estimate for each in asked.answers] == [0.0, None, None, None]
            waited = [each.waited for each in asked.answers]
            assert waited == pytest.approx([0, 3 - 0.1, 6 - 0.2, 9 - 0.3], abs=0.1)
            assert [trace.position for trace in traces] == [None] * 4
            assert len(swarm.workers["a"].served) == 4
            assert swarm.front.waiting() == {}

    stage.run(main)


def test_a_peer_that_is_full_is_not_asked_again_before_there_is_news_of_it(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm, trio.open_nursery() as nursery:
            worker = swarm.workers["a"]
            worker.refusal = Refused("busy", "full")
            asked = Asked(stage, swarm, nursery)
            for _ in range(20):
                asked.send()
            await trio.sleep(REMEMBERED_FOR - 1)
            assert len(worker.served) == 4  # As many as it seemed to have slots.
            worker.refusal = None
            swarm.view.report("a", Load(4, 4))
            await trio.sleep(0.1)
            assert len(worker.served) == 4
            swarm.view.report("a", Load(4, 3))
            await trio.sleep(0.1)
            assert len(asked.answers) == 1
            await trio.sleep(REMEMBERED_FOR)
            assert len(asked.answers) == 20
            assert asked.answers[-1].answer.attempts <= 2

    stage.run(main)


def test_an_offer_is_taken_by_who_waits_the_longest(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, trio.open_nursery() as nursery:
            worker = swarm.workers["a"]
            worker.refusal = Refused("busy", "full")
            asked = Asked(stage, swarm, nursery)
            asked.send(prompt="first")
            await trio.sleep(0.1)
            asked.send(prompt="second")
            await trio.sleep(0.1)
            worker.refusal = None
            swarm.front.note_offer(PeerId("a"), stage.MODEL)
            await trio.sleep(0.1)
            assert [request.prompt for request in worker.served] == ["first", "first"]
            swarm.front.note_offer(PeerId("a"), stage.MODEL)
            await trio.sleep(0.1)
            assert [request.prompt for request in worker.served] == ["first", "first", "second"]

    stage.run(main)


def test_a_request_that_is_refused_does_not_lose_its_place(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, trio.open_nursery() as nursery:
            worker = swarm.workers["a"]
            worker.accept_after, worker.refusal = 1.0, Refused("busy", "full after all")
            asked = Asked(stage, swarm, nursery)
            for prompt in ("first", "second", "third"):
                asked.send(prompt=prompt)
                await trio.sleep(0.1)
            await trio.sleep(2)
            worker.refusal = None
            await trio.sleep(REMEMBERED_FOR + 5)
            assert [request.prompt for request in worker.served] == ["first", "first", "second", "third"]

    stage.run(main)


def test_a_peer_that_comes_is_used_at_once(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", slots=1) as swarm, trio.open_nursery() as nursery:
            swarm.view.show("b", "offline")
            swarm.workers["a"].gap = 5.0
            asked = Asked(stage, swarm, nursery)
            asked.send()
            asked.send()
            await trio.sleep(1)
            assert asked.answers == []
            swarm.view.show("b")
            await trio.sleep(0.1)
            assert [each.answer.served_by for each in asked.answers] == ["b"]

    stage.run(main)


def test_one_that_may_go_nowhere_else_does_not_block_the_others(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", slots=1) as swarm, trio.open_nursery() as nursery:
            swarm.view.show("a", sha256="a" * 64)
            swarm.workers["a"].gap = 5.0
            only_a = f"{stage.MODEL}@sha256:{'a' * 64}"
            asked = Asked(stage, swarm, nursery)
            asked.send(model=only_a)
            await trio.sleep(0.1)
            asked.send(model=only_a)
            await trio.sleep(0.1)
            for _ in range(3):
                asked.send()
            await trio.sleep(0.5)
            assert [each.answer.served_by for each in asked.answers] == ["b", "b", "b"]

    stage.run(main)


def test_a_client_that_stops_waiting_costs_nobody_anything(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, trio.open_nursery() as nursery:
            swarm.workers["a"].gap = 1.0
            asked = Asked(stage, swarm, nursery)
            asked.send()
            await trio.sleep(0.1)
            with trio.move_on_after(1):
                await stage.read(swarm.front, stage.request())
            assert swarm.front.waiting() == {}
            assert len(swarm.workers["a"].served) == 1

    stage.run(main)


def test_an_answer_that_goes_on_elsewhere_comes_before_those_that_wait(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", "b", slots=1) as swarm, trio.open_nursery() as nursery:
            for name, worker in swarm.workers.items():
                swarm.view.show(name, sha256="a" * 64)
                worker.gap = 1.0
            asked = Asked(stage, swarm, nursery)
            asked.send()
            await trio.sleep(0.5)
            first = next(name for name, worker in swarm.workers.items() if worker.running)
            other = swarm.workers["b" if first == "a" else "a"]
            for _ in range(4):
                asked.send()
            await trio.sleep(1)
            await swarm.network.disconnect(PeerId(first))
            swarm.view.show(first, "offline")
            await trio.sleep(3)
            assert [request.resume is not None for request in other.served] == [False, True]

    stage.run(main)


def test_a_suspect_is_waited_for_until_it_has_refuted_that(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm, trio.open_nursery() as nursery:
            swarm.view.show("a", "suspect")
            asked = Asked(stage, swarm, nursery)
            asked.send()
            await trio.sleep(5)
            assert asked.at == []
            swarm.view.show("a")
            await trio.sleep(0.1)
            assert [each.text for each in asked.answers] == ["one two three"]

    stage.run(main)


def test_one_that_does_not_come_back_is_not_waited_for_for_long(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a") as swarm, trio.open_nursery() as nursery:
            swarm.view.show("a", "suspect")
            asked = Asked(stage, swarm, nursery)
            asked.send()
            await trio.sleep(100)
            assert [type(failure) for failure in asked.failures] == [ModelUnavailable]
            assert asked.at == pytest.approx([RETURN_MAX])

    stage.run(main)


def test_what_takes_no_slot_waits_for_none(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("a", slots=1) as swarm, trio.open_nursery() as nursery:
            swarm.workers["a"].gap = 100.0
            asked = Asked(stage, swarm, nursery)
            for _ in range(3):
                asked.send()
            await trio.sleep(1)
            swarm.workers["a"].chunks = (Chunk(0, (7,), ""),)
            await stage.read(swarm.front, stage.request(kind="tokenize", is_streamed=False))
            assert swarm.front.waiting()[stage.MODEL].waiting == 2
            nursery.cancel_scope.cancel()

    stage.run(main)


def test_a_request_waits_for_a_fast_peer_until_the_line_for_it_is_longer_than_the_slow_one_takes(
    stage: Stage,
) -> None:
    async def main() -> None:
        async with stage.swarm("fast", "slow", slots=1) as swarm:
            for name, gap in (("fast", 0.1), ("slow", 1.0)):
                swarm.workers[name].gap = gap
                swarm.view.report(name, Load(1, 0, decode_speed=1 / gap))
            served: list[str] = []

            async def ask() -> None:
                answered = await stage.read(swarm.front, stage.request(max_tokens=3, ignore_eos=True))
                served.append(answered.answer.served_by)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                nursery.start_soon(ask)
            assert served == ["fast", "fast"]
            served.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(ask)
            assert 1 <= served.count("slow") < served.count("fast")

    stage.run(main)


def test_one_that_takes_any_slot_does_not_wait_behind_many_that_wait_for_a_fast_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.swarm("fast", "slow", slots=1) as swarm, trio.open_nursery() as nursery:
            for name, gap in (("fast", 1.0), ("slow", 10_000.0)):
                swarm.workers[name].gap = gap
                swarm.view.report(name, Load(1, 0, decode_speed=1 / gap))
            asked = Asked(stage, swarm, nursery)
            for _ in range(12):
                asked.send(max_tokens=3, ignore_eos=True)
            await trio.sleep(0.5)
            assert not swarm.workers["slow"].served
            asked.send(max_tokens=3, ignore_eos=True, routing=Routing(policy="least_used"))
            await trio.sleep(0.5)
            assert len(swarm.workers["slow"].served) == 1
            nursery.cancel_scope.cancel()

    stage.run(main)


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_request_for_several_choices_gets_its_slots_although_single_ones_keep_coming(
    stage: Stage, names: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with stage.swarm(*names, slots=4) as swarm, trio.open_nursery() as nursery:
            for number, worker in enumerate(swarm.workers.values(), 3):
                worker.gap = number / 10

            async def keep_asking() -> None:
                while True:
                    await stage.read(swarm.front, stage.request())

            for _ in range(6 * len(names)):
                nursery.start_soon(keep_asking)
                await trio.sleep(0.1)
            begun = trio.current_time()
            several = await stage.read(swarm.front, stage.request(choices=4))
            assert trio.current_time() - begun < 8
            assert several.waited > 0
            assert max(worker.most_running for worker in swarm.workers.values()) <= 4
            nursery.cancel_scope.cancel()

    stage.run(main)
