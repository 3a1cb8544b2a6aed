"""Each node does its own part of the plan, and no view, however wrong, loses the last copy."""

from __future__ import annotations

import trio

from ledger.records import PlacementRecord
from node.placement.absences import PATIENCE
from node.placement.placer import SURPLUS_PATIENCE
from node.placement.retention import PROMISE, Retention
from tests.node.placement.conftest import FETCH_TIME, GB, SHA256, TINY, Street, on_a_street

A_WHILE = 5.0
"""Seconds in which a plan is made, and whoever is asked has answered."""
TWO = PlacementRecord(TINY, replicas=2, sha256=SHA256, size_bytes=GB)


@on_a_street(4)
async def test_as_many_as_are_wanted_fetch_it_and_nobody_else(homes: Street) -> None:
    homes.houses[0].owned[TINY] = SHA256
    homes.want(TWO)
    await trio.sleep(FETCH_TIME + A_WHILE)
    assert len(homes.holders()) == 1  # And the owner.
    assert sum(house.fetches for house in homes.houses) == 1


async def two_placed(homes: Street) -> None:
    """Two copies that the swarm made of one that its owner then took away."""
    homes.houses[0].owned[TINY] = SHA256
    homes.want(PlacementRecord(TINY, replicas=3, sha256=SHA256, size_bytes=GB))
    await trio.sleep(FETCH_TIME + A_WHILE)
    homes.houses[0].owned.clear()
    homes.houses[0].room = 0
    homes.want(TWO)
    await trio.sleep(A_WHILE)
    assert len(homes.holders()) == 2


@on_a_street(5)
async def test_a_copy_whose_holder_died_is_made_again_after_ten_minutes(homes: Street) -> None:
    await two_placed(homes)
    lost, _ = homes.holders()
    homes.miss(lost)
    await trio.sleep(PATIENCE - A_WHILE)
    assert sum(house.fetches for house in homes.houses) == 2
    await trio.sleep(2 * A_WHILE + FETCH_TIME)
    assert sum(house.fetches for house in homes.houses) == 3
    assert len([house for house in homes.holders() if house is not lost]) == 2


@on_a_street(5)
async def test_a_holder_that_comes_back_makes_one_copy_go(homes: Street) -> None:
    await two_placed(homes)
    away = homes.holders()[0]
    others = [house for house in homes.houses if house is not away]
    for house in others:
        house.missed.add(away.me)
        house.revision.rise()
    await trio.sleep(PATIENCE + FETCH_TIME + A_WHILE)
    assert len(homes.holders()) == 3
    for house in others:
        house.missed.clear()
        house.revision.rise()
    await trio.sleep(SURPLUS_PATIENCE + A_WHILE)
    assert len(homes.holders()) == 2


@on_a_street(3)
async def test_views_that_contradict_each_other_leave_as_many_copies_as_are_wanted(homes: Street) -> None:
    one = PlacementRecord(TINY, replicas=1, sha256=SHA256, size_bytes=GB)
    for house in homes.houses:
        house.put_here[TINY] = SHA256
    # Each believes that another one's copy is the one to stay.
    for house, favourite in zip(homes.houses, (1, 2, 0), strict=True):
        allowed = homes.houses[favourite].me
        house.missed.update(each.me for each in homes.houses if each.me != allowed)
    homes.want(one)
    lived = []
    for _ in range(200):
        await trio.sleep(60)
        lived.append(len(homes.holders()))
    assert min(lived) >= 1
    assert lived[-1] < 3  # Some may go, or nothing would be shown.


@on_a_street(4)
async def test_a_surplus_copy_stays_while_the_others_cannot_be_asked(homes: Street) -> None:
    await two_placed(homes)
    extra = next(house for house in homes.houses[1:] if TINY not in house.put_here)
    extra.put_here[TINY] = SHA256
    plan_excludes = homes.holders()
    for house in plan_excludes:
        homes.hub.partition([house.me], [each.me for each in homes.houses if each is not house])
    homes.houses[0].tell_all()
    await trio.sleep(SURPLUS_PATIENCE + 100)
    assert len(homes.holders()) == 3
    homes.hub.heal()
    await trio.sleep(PATIENCE)
    assert len(homes.holders()) == 2


@on_a_street(4)
async def test_what_is_taken_back_goes_and_what_its_owner_put_there_stays(homes: Street) -> None:
    homes.houses[0].owned[TINY] = SHA256
    homes.want(PlacementRecord(TINY, is_everywhere=True, sha256=SHA256, size_bytes=GB))
    await trio.sleep(FETCH_TIME + A_WHILE)
    assert len(homes.holders()) == 3
    homes.withdraw(TINY)
    await trio.sleep(A_WHILE)
    assert homes.holders() == []
    assert homes.houses[0].owned


@on_a_street(3)
async def test_a_ledger_that_knows_nothing_takes_nothing_back(homes: Street) -> None:
    homes.houses[0].put_here[TINY] = SHA256
    homes.houses[0].tell_all()
    await trio.sleep(3600)
    assert homes.holders() == [homes.houses[0]]


@on_a_street(2)
async def test_a_fetch_that_failed_is_tried_again(homes: Street) -> None:
    homes.want(PlacementRecord(TINY, nodes=(homes.houses[1].me,), sha256=SHA256, size_bytes=GB))
    await trio.sleep(FETCH_TIME + A_WHILE)
    assert (homes.houses[1].fetches, homes.holders()) == (1, [])
    homes.houses[0].owned[TINY] = SHA256
    await trio.sleep(60 + FETCH_TIME)
    assert homes.holders() == [homes.houses[1]]


@on_a_street(2)
async def test_a_fetch_that_is_not_wanted_any_more_ends(homes: Street) -> None:
    homes.houses[0].owned[TINY] = SHA256
    homes.want(PlacementRecord(TINY, nodes=(homes.houses[1].me,), sha256=SHA256, size_bytes=GB))
    await trio.sleep(FETCH_TIME / 2)
    homes.withdraw(TINY)
    await trio.sleep(FETCH_TIME)
    assert (homes.houses[1].fetches, homes.holders()) == (1, [])


def test_who_promised_gives_up_nothing_until_the_promise_is_over() -> None:
    retention = Retention()
    assert retention.promise(SHA256, now=0)
    assert not retention.begin(SHA256, now=PROMISE - 1)
    assert retention.begin(SHA256, now=PROMISE)


def test_who_is_about_to_give_up_promises_nothing() -> None:
    retention = Retention()
    assert retention.begin(SHA256, now=0)
    assert not retention.promise(SHA256, now=1)
    assert retention.promise("cd" * 32, now=1)
    retention.end(SHA256)
    assert retention.promise(SHA256, now=2)
