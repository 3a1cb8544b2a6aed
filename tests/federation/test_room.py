"""The room: whoever waits is admitted by the news, in turn, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from federation.backend import Queued
from federation.errors import Busy, ModelNotFound, ModelUnavailable, TimedOut
from federation.room import Claim, NoPlace, Room
from federation.waiting_line import Tenant
from federation.waiting_room import WAITING_MAX
from ledger.records import ModelName

if TYPE_CHECKING:
    from tests.federation.conftest import Stage

MODEL = ModelName("tiny")


@dataclass
class Slots:
    """So many slots, taken as a front leases them."""

    free: int
    asked: int = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1

    def take(self, held: ExitStack) -> int | NoPlace:
        self.asked += 1
        if not self.free:
            return NoPlace()
        held.enter_context(self.hold())
        return self.free


@dataclass
class People:
    """Who asks for a slot, holds it for `seconds`, and in which order they got one."""

    room: Room
    slots: Slots
    seconds: float = 1.0
    admitted: list[str] = field(default_factory=list)
    waited: dict[str, float] = field(default_factory=dict)

    async def ask(
        self, name: str, *, tenant: str = "", timeout: float = 600.0, seconds: float | None = None
    ) -> None:
        came = trio.current_time()
        async with self.room.visit(Claim(MODEL, Tenant(tenant), 0, 100, came + timeout)) as visit:
            with ExitStack() as held:
                await visit.place(lambda: self._take(name, held))
                self.waited[name] = trio.current_time() - came
                await trio.sleep(self.seconds if seconds is None else seconds)

    def _take(self, name: str, held: ExitStack) -> int | NoPlace:
        place = self.slots.take(held)
        if not isinstance(place, NoPlace):
            # Now, and not when its task comes to know.
            self.admitted.append(name)
        return place


def people(slots: int = 1, seconds: float = 1.0) -> People:
    return People(Room(), Slots(slots), seconds)


def test_who_finds_a_place_takes_it_without_giving_way_to_anybody(stage: Stage) -> None:
    async def main() -> None:
        here = people()
        with ExitStack() as held:
            claim = Claim(MODEL, Tenant(""), 0, 1, trio.current_time() + 1)
            async with here.room.visit(claim) as visit:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await visit.place(lambda: here.slots.take(held))
                assert not scope.cancelled_caught
                assert visit.queued == Queued(0, 0.0)

    stage.run(main)


def test_a_slot_that_frees_goes_to_who_waits_and_not_to_who_comes_just_then(stage: Stage) -> None:
    async def main() -> None:
        here = people()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(here.ask, name)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(20):
                await trio.sleep(0.1)
                nursery.start_soon(here.ask, "late")
        assert here.admitted[:3] == ["a", "b", "c"]
        assert (here.waited["b"], here.waited["c"]) == (1.0, 2.0)

    stage.run(main)


def test_nobody_asks_again_without_news(stage: Stage) -> None:
    async def main() -> None:
        here = people(slots=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.ask, "a")
            await trio.sleep(500)
            assert here.slots.asked == 1
            here.slots.free = 1
            here.room.note_news()
            await trio.testing.wait_all_tasks_blocked()
        assert (here.admitted, here.waited) == (["a"], {"a": 500.0})

    stage.run(main)


def test_one_is_asked_for_all_that_find_no_place_for_the_same_reason(stage: Stage) -> None:
    async def main() -> None:
        here = people(slots=0)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(here.ask, "a")
            await trio.testing.wait_all_tasks_blocked()
            before = here.slots.asked
            here.room.note_news()
            assert here.slots.asked == before + 1
            nursery.cancel_scope.cancel()

    stage.run(main)


@pytest.mark.parametrize("seed", range(5))
def test_one_key_that_sends_fifty_at_once_does_not_hold_up_another(stage: Stage, seed: int) -> None:
    """At most one request of the first goes before each of the second: it, and those of its own before it.

    It asks for a quarter of what there is, which is less than its half.
    """

    async def main() -> None:
        here, rng = people(slots=4), Random(seed)
        admitted_before: list[list[str]] = []

        async def ask_once(number: int) -> None:
            already = len(here.admitted)
            await here.ask(f"one {number}", tenant="b", seconds=rng.uniform(0.2, 1.8))
            admitted_before.append(here.admitted[already : here.admitted.index(f"one {number}")])

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(lambda: here.ask("many", tenant="a", seconds=rng.uniform(0.2, 1.8)))
            await trio.testing.wait_all_tasks_blocked()
            for number in range(20):
                await trio.sleep(1)
                nursery.start_soon(ask_once, number)
        assert len(admitted_before) == 20
        for before in admitted_before:
            own = sum(name.startswith("one") for name in before)
            assert before.count("many") <= own + 1

    stage.run(main)


def test_a_cancelled_one_leaves_no_trace(stage: Stage) -> None:
    async def main() -> None:
        here = people()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.ask, "a")
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as others:
                for name in "bcd":
                    others.start_soon(here.ask, name)
                await trio.testing.wait_all_tasks_blocked()
                assert here.room.report()[MODEL].waiting == 3
                others.cancel_scope.cancel()
            assert here.room.report() == {}
        assert here.slots.free == 1

    stage.run(main)


def test_one_that_is_cancelled_as_it_is_admitted_passes_the_slot_on(stage: Stage) -> None:
    async def main() -> None:
        here = people()
        doomed = trio.CancelScope()

        async def ask_doomed() -> None:
            with doomed:
                await here.ask("doomed")

        async with trio.open_nursery() as nursery:
            with ExitStack() as held:
                claim = Claim(MODEL, Tenant(""), 0, 1, trio.current_time() + 9)
                async with here.room.visit(claim) as visit:
                    await visit.place(lambda: here.slots.take(held))
                    nursery.start_soon(ask_doomed)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(here.ask, "b")
                    await trio.testing.wait_all_tasks_blocked()
                    doomed.cancel()
                    held.close()
                # The slot is the doomed one's from here on, and it does not know yet.
                assert here.slots.free == 0
        assert here.admitted == ["doomed", "b"]
        assert here.waited.keys() == {"b"}
        assert here.slots.free == 1

    stage.run(main)


def test_who_waits_too_long_is_told_when_to_come_back(stage: Stage) -> None:
    async def main() -> None:
        here = people(seconds=30.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.ask, "a")
            nursery.start_soon(here.ask, "b")
            await trio.sleep(31)
            with pytest.raises(TimedOut) as caught:
                await here.ask("c", timeout=5.0)
            assert trio.current_time() == pytest.approx(36)
            # One slot, thirty seconds each, and itself is all that waits.
            assert caught.value.retry_after == 30.0

    stage.run(main)


def test_a_full_room_refuses_and_says_when_to_come_back(stage: Stage) -> None:
    async def main() -> None:
        here = people(slots=1, seconds=10.0)
        async with trio.open_nursery() as nursery:
            await here.ask("first")
            for _ in range(WAITING_MAX + 1):
                nursery.start_soon(here.ask, "many")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Busy) as caught:
                await here.ask("too many")
            assert caught.value.retry_after == 10.0
            nursery.cancel_scope.cancel()

    stage.run(main)


def test_who_makes_room_for_another_is_told_so(stage: Stage) -> None:
    async def main() -> None:
        here = people(slots=0)
        refused: list[str] = []

        async def ask(name: str, tenant: str) -> None:
            try:
                await here.ask(name, tenant=tenant)
            except Busy:
                refused.append(name)

        async with trio.open_nursery() as nursery:
            for number in range(WAITING_MAX):
                nursery.start_soon(ask, f"a{number}", "a")
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, "b", "b")
            await trio.testing.wait_all_tasks_blocked()
            assert refused == [f"a{WAITING_MAX - 1}"]
            nursery.cancel_scope.cancel()

    stage.run(main)


def test_one_that_waits_for_what_cannot_be_is_told_at_once(stage: Stage) -> None:
    async def main() -> None:
        room, is_there = Room(), True

        def choose() -> NoPlace:
            if not is_there:
                raise ModelNotFound("it was removed")
            return NoPlace()

        async def ask() -> None:
            async with room.visit(Claim(MODEL, Tenant(""), 0, 1, trio.current_time() + 60)) as visit:
                await visit.place(choose)

        async with trio.open_nursery() as nursery:
            failures: list[ModelNotFound] = []

            async def note() -> None:
                try:
                    await ask()
                except ModelNotFound as error:
                    failures.append(error)

            for _ in range(3):
                nursery.start_soon(note)
            await trio.testing.wait_all_tasks_blocked()
            is_there = False
            room.note_news(MODEL)
            await trio.testing.wait_all_tasks_blocked()
            assert len(failures) == 3

    stage.run(main)


def test_what_may_still_come_is_waited_for_with_patience_that_begins_again(stage: Stage) -> None:
    async def main() -> None:
        room = Room()
        is_hopeless = True
        verdict = ModelUnavailable("nobody can run it")

        def choose() -> NoPlace:
            return NoPlace(patience=10.0, verdict=verdict) if is_hopeless else NoPlace()

        async def ask() -> None:
            async with room.visit(Claim(MODEL, Tenant(""), 0, 1, trio.current_time() + 600)) as visit:
                with pytest.raises(ModelUnavailable):
                    await visit.place(choose)
            assert trio.current_time() == pytest.approx(begun + 8 + 100 + 10)

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(8)
            is_hopeless = False
            room.note_news()
            await trio.sleep(100)
            is_hopeless = True
            room.note_news()
            await trio.sleep(5)
            room.note_news()

    stage.run(main)


def test_who_comes_back_is_before_those_that_came_later(stage: Stage) -> None:
    async def main() -> None:
        here = people()

        async def refused_once(name: str) -> None:
            claim = Claim(MODEL, Tenant(""), 0, 1, trio.current_time() + 60)
            async with here.room.visit(claim) as visit:
                with ExitStack() as held:
                    await visit.place(lambda: here.slots.take(held))
                    await trio.sleep(1)
                here.slots.free -= 1  # Somebody else took it.
                visit.come_back()
                with ExitStack() as held:
                    await visit.place(lambda: here.slots.take(held))
                    here.admitted.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused_once, "a")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(here.ask, "b")
            await trio.sleep(5)
            assert here.admitted == []
            here.slots.free += 1
            here.room.note_news()
        assert here.admitted == ["a", "b"]

    stage.run(main)


def test_how_many_wait_is_told_whenever_it_changes(stage: Stage) -> None:
    async def main() -> None:
        told: list[int] = []
        here = People(Room(lambda model: told.append(here.room.wanted(model))), Slots(1))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(here.ask, "a")
        assert told == [1, 2, 1, 0]

    stage.run(main)


def test_where_no_news_may_come_it_is_looked_at_again_in_time(stage: Stage) -> None:
    async def main() -> None:
        room = Room()
        begun = trio.current_time()
        asked: list[float] = []

        def choose() -> str | NoPlace:
            asked.append(trio.current_time() - begun)
            return "there" if len(asked) == 3 else NoPlace(again_in=10.0)

        async with room.visit(Claim(MODEL, Tenant(""), 0, 1, begun + 60)) as visit:
            assert await visit.place(choose) == "there"
        assert asked == [0.0, 10.0, 20.0]

    stage.run(main)


def test_looking_again_is_over_with_the_deadline(stage: Stage) -> None:
    async def main() -> None:
        room = Room()
        begun = trio.current_time()
        async with room.visit(Claim(MODEL, Tenant(""), 0, 1, begun + 25)) as visit:
            with pytest.raises(TimedOut):
                await visit.place(lambda: NoPlace(again_in=10.0))
        assert trio.current_time() == begun + 25

    stage.run(main)


def test_what_one_waits_for_that_needs_several_slots_is_kept_for_it_in_the_end(stage: Stage) -> None:
    """Four slots, of which three at least are always taken by requests that need one each."""

    async def main() -> None:
        room, free = Room(), [4]

        async def ask(slots: int, seconds: float) -> float:
            came = trio.current_time()
            claim = Claim(MODEL, Tenant(""), 0, 1, came + 600, slots)
            async with room.visit(claim) as visit:

                def choose() -> bool | NoPlace:
                    if "the peer" in visit.kept or free[0] < slots:
                        return NoPlace(waits_for="the peer" if slots > 1 else None)
                    free[0] -= slots
                    return True

                await visit.place(choose, slots)
                waited = trio.current_time() - came
                await trio.sleep(seconds)
                free[0] += slots
            return waited

        async def keep_asking(seconds: float) -> None:
            while True:
                await ask(1, seconds)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(keep_asking, 1.0 + number / 10)
            await trio.sleep(2)
            for _ in range(3):
                assert 1 < await ask(4, 1.0) < 6
            assert free[0] <= 4
            nursery.cancel_scope.cancel()

    stage.run(main)
