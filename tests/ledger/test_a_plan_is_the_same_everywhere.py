"""Placement: every node makes the same plan, and little of it changes when little does."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.placement import REPLICAS_MAX, Host, Plan, plan, speed_class
from ledger.records import ModelName, PlacementRecord
from p2p.peer import PeerId

GB = 10**9
TINY, LARGE = ModelName("tiny"), ModelName("large")


def peer(number: int) -> PeerId:
    return PeerId(f"peer-{number:04}")


def host(number: int, room: int = 100 * GB, **said: object) -> Host:
    return replace(Host(peer(number), room), **said)  # type: ignore[arg-type]


def wanted(model: ModelName, replicas: int = 1, *, size: int = GB, **said: object) -> PlacementRecord:
    return replace(
        PlacementRecord(model, replicas=replicas, sha256=f"{model}-1", size_bytes=size),
        **said,  # type: ignore[arg-type]
    )


hosts_drawn = st.lists(
    st.tuples(st.integers(0, 10), st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 12)), max_size=12
).map(
    lambda drawn: [
        Host(peer(number), room * GB, memory * GB or math.inf, speed)
        for number, (room, speed, memory) in enumerate(drawn)
    ]
)
placements_drawn = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 4), st.booleans(), st.lists(st.integers(0, 14), max_size=3)),
    max_size=8,
).map(
    lambda drawn: [
        PlacementRecord(
            ModelName(f"model-{number}"),
            replicas=replicas,
            nodes=tuple(peer(each) for each in nodes) if everywhere is False else (),
            is_everywhere=everywhere and replicas == 0,
            sha256=f"sha-{number}",
            size_bytes=size * GB,
        )
        for number, (size, replicas, everywhere, nodes) in enumerate(drawn)
    ]
)


def landed(
    hosts: Sequence[Host],
    placements: Sequence[PlacementRecord],
    made: Plan,
    chance: float,
    rng: random.Random,
) -> list[Host]:
    """`hosts` once some of what was planned has arrived."""
    held: dict[PeerId, dict[ModelName, str]] = {each.peer: dict(each.held) for each in hosts}
    for placement in placements:
        for holder in made.holders[placement.model]:
            if rng.random() < chance:
                held[holder][placement.model] = placement.sha256
    return [replace(each, held=held[each.peer]) for each in hosts]


def held_bytes(made: Plan, placements: Sequence[PlacementRecord], holder: PeerId) -> int:
    return sum(each.size_bytes for each in placements if holder in made.holders[each.model])


@given(hosts_drawn, placements_drawn, st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_known_does_not_matter(
    hosts: list[Host], placements: list[PlacementRecord], rng: random.Random
) -> None:
    made = plan(placements, hosts)
    rng.shuffle(hosts)
    rng.shuffle(placements)
    assert plan(placements, hosts) == made


@given(hosts_drawn, placements_drawn)
def test_nobody_is_planned_over_what_its_owner_allowed(
    hosts: list[Host], placements: list[PlacementRecord]
) -> None:
    made = plan(placements, hosts)
    for each in hosts:
        assert held_bytes(made, placements, each.peer) <= each.models_size_max


@given(hosts_drawn, placements_drawn, st.floats(0, 1), st.randoms(use_true_random=False))
def test_copies_that_arrive_change_no_plan(
    hosts: list[Host], placements: list[PlacementRecord], chance: float, rng: random.Random
) -> None:
    made = plan(placements, hosts)
    assert plan(placements, landed(hosts, placements, made, chance, rng)) == made


@given(hosts_drawn, placements_drawn)
def test_what_cannot_be_done_is_said(hosts: list[Host], placements: list[PlacementRecord]) -> None:
    made = plan(placements, hosts)
    for each in placements:
        if not (each.nodes or each.is_everywhere) and len(made.holders[each.model]) < each.replicas:
            assert f"{len(made.holders[each.model])} of {each.replicas} copies" in made.problems[each.model]


def a_large_swarm(rng: random.Random) -> tuple[list[Host], list[PlacementRecord]]:
    hosts = [
        host(
            number,
            rng.choice([50, 100, 200]) * GB,
            model_size_max=58 * GB,
            speed_class=rng.choice([1.0, 2.0, 4.0]),
        )
        for number in range(1000)
    ]
    placements = [
        wanted(ModelName(f"model-{number}"), rng.randint(1, 8), size=rng.randint(1, 40) * GB)
        for number in range(100)
    ]
    return hosts, placements


def test_one_node_lost_moves_its_own_copies_only() -> None:
    rng = random.Random(7)
    hosts, placements = a_large_swarm(rng)
    made = plan(placements, hosts)
    hosts = landed(hosts, placements, made, 1.0, rng)
    replicas = sum(map(len, made.holders.values()))
    for lost in rng.sample(hosts, 20):
        after = plan(placements, [each for each in hosts if each is not lost])
        moved = {
            (model, each)
            for model in after.holders
            for each in set(after.holders[model]) - set(made.holders[model])
        }
        assert len(moved) == sum(lost.peer in holders for holders in made.holders.values())
        assert len(moved) <= 0.02 * replicas


def test_a_newcomer_moves_nothing_that_is_in_its_place() -> None:
    rng = random.Random(8)
    hosts, placements = a_large_swarm(rng)
    made = plan(placements, hosts)
    hosts = landed(hosts, placements, made, 1.0, rng)
    assert plan(placements, [*hosts, host(5000, 10**15, speed_class=4.0)]) == made


def test_faster_machines_hold_more() -> None:
    hosts = [host(number, speed_class=4.0 if number < 50 else 1.0) for number in range(100)]
    made = plan([wanted(ModelName(f"m{number}"), 1, size=1) for number in range(400)], hosts)
    on_fast = sum(holder < peer(50) for holders in made.holders.values() for holder in holders)
    assert 0.7 < on_fast / 400 < 0.9  # Four fifths are due.


def test_a_file_that_its_owner_put_there_counts_and_takes_no_room() -> None:
    owner = host(1, room=0, held={TINY: "tiny-1"}, owned=frozenset({TINY}))
    made = plan([wanted(TINY, 2)], [host(0), owner])
    assert made.holders[TINY] == (peer(0), peer(1))
    assert not made.problems


def test_another_file_of_the_same_name_does_not_count() -> None:
    other = host(1, held={TINY: "tiny-0"}, owned=frozenset({TINY}))
    made = plan([wanted(TINY, 2)], [host(0), other])
    assert made.holders[TINY] == (peer(0),)
    assert "1 of 2 copies" in made.problems[TINY]


def test_an_older_file_that_the_swarm_put_there_gives_way() -> None:
    made = plan([wanted(TINY)], [host(0, held={TINY: "tiny-0"})])
    assert made.holders[TINY] == (peer(0),)


def test_nobody_gets_a_model_who_takes_none_in() -> None:
    made = plan([wanted(TINY, nodes=(peer(0), peer(7)))], [host(0, room=0)])
    assert made.holders[TINY] == ()
    assert made.problems[TINY] == (
        f"{peer(0)} takes no models in; 1 of the nodes it is wanted on are not there"
    )


def test_everywhere_is_every_node_that_takes_models_in_and_has_room() -> None:
    hosts = [host(0), host(1, room=0), host(2, room=GB // 2), host(3, model_size_max=GB - 1), host(4)]
    made = plan([wanted(TINY, 0, is_everywhere=True)], hosts)
    assert made.holders[TINY] == (peer(0), peer(4))
    assert made.problems[TINY] == f"{peer(2)} has no room left; {peer(3)} has too little memory"


def test_a_swarm_without_room_is_told_once() -> None:
    made = plan([wanted(TINY, 0, is_everywhere=True)], [host(number, room=1) for number in range(1000)])
    assert made.problems[TINY].count("has no room left") == 3
    assert made.problems[TINY].endswith("; and 997 more")


def test_the_largest_goes_first_so_that_it_fits_at_all() -> None:
    made = plan([wanted(TINY), wanted(LARGE, size=10 * GB)], [host(0, room=10 * GB), host(1, room=GB)])
    assert made.holders == {TINY: (peer(1),), LARGE: (peer(0),)}


def test_more_copies_than_anybody_needs_are_not_made() -> None:
    made = plan([wanted(TINY, 10**6, size=1)], [host(number) for number in range(100)])
    assert len(made.holders[TINY]) == REPLICAS_MAX


def test_a_size_that_no_file_has_fits_nowhere() -> None:
    made = plan([wanted(TINY, size=10**18)], [host(0)])
    assert made.holders[TINY] == ()


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [({}, 1.0), ({"cores": 8}, 2.0), ({"cores": 4, "gpu": ["RTX"]}, 4.0), ({"cores": "many"}, 1.0)],
)
def test_how_fast_a_machine_is_comes_from_what_it_says(
    hardware: Mapping[str, object], expected: float
) -> None:
    assert speed_class(hardware) == expected
