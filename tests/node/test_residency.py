"""Who is loaded, who has to go, who waits and who is refused, where memory is bounded."""

from __future__ import annotations

import math

import pytest

from node.residency import (
    Added,
    Admit,
    Asked,
    Dismissed,
    Effect,
    Event,
    Failed,
    Gone,
    Left,
    Load,
    Loaded,
    Refuse,
    Removed,
    Residency,
    ResidencyConfig,
    TimePassed,
    Unload,
    Wanted,
)

PATIENCE = 10.0


class Table:
    """A residency, and what it said last. Sizes and the budget are plain numbers."""

    def __init__(self, budget: int, **sizes: int) -> None:
        self.residency = Residency[str](ResidencyConfig(budget, PATIENCE))
        for key, size in sizes.items():
            self.add(key, size)

    def add(self, key: str, size: int, *, pinned: bool = False, keep_alive: float = math.inf) -> None:
        self(Added(key, size, pinned, keep_alive))

    def __call__(self, event: Event[str], now: float = 0.0) -> list[Effect[str]]:
        return self.residency.handle(event, now)

    def loaded(self, key: str, now: float = 0.0, *, size: int = 0) -> None:
        """`key` is loaded by a request, which has ended."""
        assert self(Asked(key), now) == [Load(key), Admit(key)]
        self(Loaded(key, size), now)
        self(Left(key, was_admitted=True), now)


def test_a_model_that_fits_is_loaded_at_once_and_stays() -> None:
    table = Table(10, a=4, b=6)
    table.loaded("a")
    table.loaded("b")
    assert table(Asked("a"), 1) == [Admit("a")]


def test_the_least_recently_used_one_goes_first() -> None:
    table = Table(10, a=4, b=4, c=4)
    table.loaded("a", 1)
    table.loaded("b", 2)
    table(Asked("a"), 3)
    table(Left("a", was_admitted=True), 4)
    assert table(Asked("c"), 5) == [Unload("b")]
    assert table(Gone("b"), 6) == [Load("c"), Admit("c")]


def test_nothing_goes_that_need_not() -> None:
    table = Table(10, small=2, large=7, new=8)
    table.loaded("small", 1)
    table.loaded("large", 2)
    assert table(Asked("new"), 3) == [Unload("large")]


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_model_in_use_stays_and_who_is_behind_waits(is_loaded: bool) -> None:
    table = Table(10, a=6, b=6)
    table(Asked("a"))
    if is_loaded:
        table(Loaded("a", 0))
    assert table(Asked("b"), 1) == []
    assert table(Asked("a"), 2) == [Admit("a")], "it is patient at first"
    assert table(Left("a", was_admitted=True), 3) == []
    assert table(Left("a", was_admitted=True), 4) == [Unload("a")]


def test_an_idle_one_stays_too_until_all_that_must_go_can() -> None:
    table = Table(10, idle=3, busy=6, new=9)
    table.loaded("idle", 1)
    table(Asked("busy"), 2)
    assert table(Asked("new"), 3) == []
    assert table(Asked("idle"), 4) == [Admit("idle")]
    table(Left("idle", was_admitted=True), 5)
    assert set(table(Left("busy", was_admitted=True), 6)) == {Unload("idle"), Unload("busy")}


def test_a_model_in_demand_makes_room_after_a_while() -> None:
    table = Table(10, a=6, b=6)
    table(Asked("a"))
    table(Asked("b"), 1)
    assert table(Asked("a"), 1 + PATIENCE) == []
    assert table(Left("a", was_admitted=True), 20) == [Unload("a")]
    assert table(Gone("a"), 21) == [Load("b"), Admit("b")]
    assert table(Left("b", was_admitted=True), 22) == [Unload("b")], "now the other one waits"


def test_of_two_in_demand_the_same_one_makes_room_until_it_has() -> None:
    table = Table(12, a=6, b=6, new=6)
    table(Asked("a"), 1)
    table(Asked("a"), 1)
    table(Asked("b"), 2)
    table(Asked("new"), 3)
    assert table(Asked("a"), 20) == []
    # Its end makes it the one that was used last.
    assert table(Left("a", was_admitted=True), 21) == []
    assert table(Asked("b"), 22) == [Admit("b")]
    assert table(Left("a", was_admitted=True), 23) == [Unload("a")]


def test_who_waited_goes_on_when_nobody_needs_the_room_any_more() -> None:
    table = Table(10, a=6, b=6)
    table(Asked("a"))
    table(Asked("b"))
    table(Asked("a"), PATIENCE)
    assert table(Left("b", was_admitted=False), 11) == [Admit("a")]


def test_first_come_first_served() -> None:
    table = Table(10, a=9, b=9, c=2)
    table(Asked("a"))
    table(Asked("b"))
    assert table(Asked("c")) == []
    assert table(Left("a", was_admitted=True)) == [Unload("a")]
    assert table(Gone("a")) == [Load("b"), Admit("b")]


def test_what_can_never_fit_is_refused_with_the_sizes() -> None:
    gib = 2**30
    table = Table(10 * gib, a=11 * gib, b=6 * gib)
    table.add("pinned", 5 * gib, pinned=True)
    assert table(Asked("a")) == [
        Refuse("a", "it needs 11.00 GiB of memory; the models of this node may take 10.00 GiB (--memory)")
    ]
    table.loaded("pinned")
    [refusal] = table(Asked("b"))
    assert isinstance(refusal, Refuse)
    assert "those that are pinned hold 5.00 GiB" in refusal.reason


def test_a_pinned_model_stays_however_long_nobody_uses_it() -> None:
    table = Table(10, a=5, b=5)
    table.add("pinned", 5, pinned=True, keep_alive=1)
    table.loaded("pinned")
    table.loaded("a", 1)
    assert table.residency.wake_at() == math.inf
    assert table(Asked("b"), 100) == [Unload("a")]


def test_the_measured_size_takes_the_place_of_the_estimate() -> None:
    table = Table(10, a=4, b=4)
    table.loaded("a", size=7)
    assert table.residency.size_bytes("a") == 7
    assert table(Asked("b"), 1) == [Unload("a")]


def test_one_that_turns_out_larger_drives_idle_ones_out() -> None:
    table = Table(10, a=4, b=4)
    table.loaded("a")
    table(Asked("b"), 1)
    assert table(Loaded("b", 8), 2) == [Unload("a")]


def test_a_model_is_unloaded_once_nobody_used_it_for_long_enough() -> None:
    table = Table(10)
    table.add("a", 1, keep_alive=5)
    table.loaded("a", 1)
    assert table.residency.idle_since("a") == 1
    assert table.residency.wake_at() == 6
    assert table(TimePassed(), 5.9) == []
    assert table(TimePassed(), 6) == [Unload("a")]


def test_a_model_in_use_does_not_expire() -> None:
    table = Table(10)
    table.add("a", 1, keep_alive=0)
    table(Asked("a"))
    table(Loaded("a", 0), 1)
    assert table(TimePassed(), 100) == []
    assert table(Left("a", was_admitted=True), 101) == [Unload("a")]


def test_who_asks_at_the_last_moment_keeps_it() -> None:
    table = Table(10)
    table.add("a", 1, keep_alive=5)
    table.loaded("a", 1)
    assert table(Asked("a"), 6) == [Admit("a")]


def test_a_dismissed_model_goes_after_what_runs_and_comes_back_for_who_asks_meanwhile() -> None:
    table = Table(10)
    table.add("a", 1, pinned=True)
    table(Asked("a"))
    assert table(Dismissed("a")) == []
    assert table(Asked("a"), 1) == []
    assert table(Left("a", was_admitted=True), 2) == [Unload("a")]
    assert table(Gone("a"), 3) == [Load("a"), Admit("a")]


def test_a_model_is_loaded_ahead_only_where_nobody_has_to_go() -> None:
    table = Table(10, a=6, b=6)
    assert table(Wanted("a")) == [Load("a")]
    assert table(Wanted("b")) == []
    assert table(Asked("b")) == [Unload("a")], "even while it is loading, as nobody waits for it"


def test_one_that_died_or_was_removed_takes_no_memory() -> None:
    table = Table(10, a=6, b=6, c=6)
    table(Asked("a"))
    table(Asked("b"))
    assert table(Gone("a")) == [Load("b"), Admit("b")]
    table(Asked("c"))
    assert table(Removed("b")) == [Load("c"), Admit("c")]
    assert table(Left("b", was_admitted=True)) == []


def test_who_waits_for_a_model_that_failed_is_refused_and_it_takes_no_memory() -> None:
    table = Table(10, a=6, b=6)
    table(Asked("a"))
    table(Asked("b"))
    assert table(Asked("a"), PATIENCE) == [], "it has to make room"
    assert table(Failed("a", "broken"), 11) == [Refuse("a", "broken"), Load("b"), Admit("b")]
    assert table(Wanted("a"), 12) == []


def test_a_model_that_fails_while_it_waits_for_memory_is_not_loaded() -> None:
    table = Table(10, a=6, b=6)
    table(Asked("a"))
    table(Asked("b"))
    assert table(Failed("b", "damaged"), 1) == [Refuse("b", "damaged")]
    assert table(Left("a", was_admitted=True), 2) == []


def test_a_model_that_failed_comes_back_only_once_what_is_left_of_its_engine_is_gone() -> None:
    table = Table(10, a=6)
    table(Asked("a"))
    assert table(Failed("a", "broken"), 1) == []
    assert table(Dismissed("a"), 2) == [], "who was let in has not left yet"
    assert table(Left("a", was_admitted=True), 3) == [Unload("a")]
    assert table(Asked("a"), 4) == []
    assert table(Gone("a"), 5) == [Load("a"), Admit("a")]


def test_a_dismissed_model_that_fails_meanwhile_goes_too() -> None:
    table = Table(10, a=6)
    table(Asked("a"))
    table(Dismissed("a"))
    assert table(Asked("a"), 1) == []
    assert table(Failed("a", "broken"), 2) == [Refuse("a", "broken")]
    assert table(Left("a", was_admitted=True), 3) == [Unload("a")]


def test_a_model_measured_too_large_is_left_alone_while_it_is_loaded_and_then_refused() -> None:
    table = Table(10)
    table.add("a", 6, pinned=True)
    table(Asked("a"))
    table(Loaded("a", 11), 1)
    assert table(Wanted("a"), 2) == []
    table(Dismissed("a"), 3)
    assert table(Left("a", was_admitted=True), 4) == [Unload("a")]
    table(Gone("a"), 5)
    [refusal] = table(Wanted("a"), 6)
    assert isinstance(refusal, Refuse)
    table(Failed("a", refusal.reason), 6)
    assert table(Dismissed("a"), 7) == [Unload("a")]
    table(Gone("a"), 7)
    assert table(Asked("a"), 8) == [Load("a"), Admit("a")], "what was measured may have been wrong"
