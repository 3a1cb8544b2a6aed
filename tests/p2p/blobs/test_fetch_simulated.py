"""Fetches among seeders of every kind, in virtual time: what must hold, and how little travels for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.blobs.manifest import CHUNK_SIZE, chunk_count
from p2p.peer import PeerId
from tests.p2p.blobs.fetch_world import FetchWorld, Node

FILE_SIZE = 253_000_000
"""Gemma 3 270M."""
LIMIT = 20e6
SEEDS = range(8)


def took(world: FetchWorld, *fetchers: Node) -> float:
    """Seconds until the last of them has everything."""
    world.run(300)
    times = [fetcher.done_at for fetcher in fetchers]
    assert None not in times
    return max(time for time in times if time is not None)


def one_from(seeders: int, seed: int) -> float:
    world = FetchWorld(FILE_SIZE, seed)
    for number in range(seeders):
        world.add(f"seeder {number}", rate=LIMIT, has_all=True)
    return took(world, world.add("fetcher"))


@pytest.mark.parametrize("seed", SEEDS)
def test_three_limited_seeders_give_nearly_three_times_as_fast_as_one(seed: int) -> None:
    assert one_from(1, seed) >= 2.8 * one_from(3, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("peer_rate", [100e6, LIMIT])
def test_five_that_fetch_from_one_limited_seeder_give_to_each_other(seed: int, peer_rate: float) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    seeder = world.add("seeder", rate=LIMIT, has_all=True)
    time = took(world, *(world.add(f"fetcher {number}", rate=peer_rate) for number in range(5)))
    assert seeder.sent_bytes <= 1.3 * FILE_SIZE
    assert time <= 2.2 * one_from(1, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("peer_rate", [100e6, LIMIT])
def test_of_a_small_file_as_well_most_comes_from_each_other(seed: int, peer_rate: float) -> None:
    world = FetchWorld(16 * CHUNK_SIZE, seed)
    seeder = world.add("seeder", rate=LIMIT, has_all=True)
    took(world, *(world.add(f"fetcher {number}", rate=peer_rate) for number in range(3)))
    assert seeder.sent_bytes <= 1.5 * world.size_bytes


@pytest.mark.parametrize("seed", SEEDS)
def test_who_is_restarted_at_half_time_fetches_the_other_half(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    for name in ("one", "other"):
        world.add(name, rate=LIMIT, has_all=True)
    fetcher = world.add("fetcher")
    while fetcher.has.count * 2 < fetcher.has.chunk_count:
        world.run(0.05)
    count = fetcher.has.count
    world.restart(fetcher)
    assert fetcher.has.count == count
    took(world, fetcher)
    # What was on its way comes again.
    assert fetcher.got_bytes <= FILE_SIZE + 8 * CHUNK_SIZE


@pytest.mark.parametrize("seed", SEEDS)
def test_what_comes_twice_at_the_end_is_at_most_a_chunk_from_each_seeder(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    rates = [0.2e6, 1e6, 3e6, 10e6, 30e6, 100e6]
    for rate in rates:
        world.add(f"seeder {rate}", rate=rate, has_all=True)
    fetcher = world.add("fetcher")
    took(world, fetcher)
    assert len(fetcher.asked) <= fetcher.has.chunk_count + 4 * len(rates)
    assert fetcher.got_bytes <= FILE_SIZE + CHUNK_SIZE * len(rates)


@pytest.mark.parametrize("seed", SEEDS)
def test_who_says_to_have_what_it_lacks_costs_little(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    world.add("honest", rate=40e6, has_all=True)
    braggart = world.add("braggart", rate=40e6, has=(0, 1), brags=True)
    fetcher = world.add("fetcher")
    assert took(world, fetcher) <= FILE_SIZE / 40e6 + 1.0
    assert sum(peer == braggart.name for peer, _ in fetcher.asked) <= 20
    assert fetcher.got_bytes <= 1.05 * FILE_SIZE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", ["killed", "frozen"])
def test_a_seeder_that_goes_at_half_time_costs_little(seed: int, end: str) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    world.add("stays", rate=40e6, has_all=True)
    goes, fetcher = world.add("goes", rate=40e6, has_all=True), world.add("fetcher")
    while fetcher.has.count * 2 < fetcher.has.chunk_count:
        world.run(0.05)
    if end == "killed":
        world.kill(goes)
    else:
        goes.is_frozen = True
    # Its half as well comes from the other one; a frozen one is found out by its silence.
    assert took(world, fetcher) <= FILE_SIZE / 40e6 + 1.0
    assert fetcher.got_bytes <= 1.05 * FILE_SIZE


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_seeder_does_not_hold_up_the_end(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    world.add("fast", rate=40e6, has_all=True)
    world.add("slow", rate=0.2e6, has_all=True)
    fetcher = world.add("fetcher")
    assert took(world, fetcher) <= FILE_SIZE / 40e6 + 0.5
    assert fetcher.got_bytes <= 1.05 * FILE_SIZE


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_liar_nothing_is_used_and_little_is_fetched(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    world.add("honest", rate=40e6, has_all=True)
    liar, fetcher = world.add("liar", rate=40e6, has_all=True, lies=True), world.add("fetcher")
    took(world, fetcher)
    assert fetcher.got_bytes <= 1.05 * FILE_SIZE
    assert liar.sent_bytes > 0


def test_the_same_seed_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        world = FetchWorld(FILE_SIZE, seed=5)
        world.add("seeder", rate=LIMIT, has_all=True)
        fetchers = [world.add(f"fetcher {number}") for number in range(3)]
        took(world, *fetchers)
        stories.append([(fetcher.done_at, fetcher.asked) for fetcher in fetchers])
    assert stories[0] == stories[1]


@dataclass(frozen=True)
class Someone:
    """A peer of a generated swarm."""

    rate: float
    share: int
    """Of eight chunks, how many it has; 8: all."""
    fate: str


someone = st.builds(
    Someone,
    rate=st.sampled_from([0.3e6, 3e6, 30e6, 200e6]),
    share=st.integers(1, 8),
    fate=st.sampled_from(["stays", "lies", "brags", "dies", "freezes", "comes late"]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(someone, max_size=6), st.integers(1, 40), st.integers(1, 4), st.booleans(), st.integers(0, 2**32)
)
def test_one_honest_seeder_is_enough_whoever_else_there_is(
    others: list[Someone], count: int, fetchers: int, is_restarted: bool, seed: int
) -> None:
    """That nobody is asked for what it lacks, or for more than a window, is checked by the world."""
    world = FetchWorld(CHUNK_SIZE * (count - 1) + 1, seed)
    world.add("honest", rate=5e6, has_all=True)
    here = [world.add(f"fetcher {number}") for number in range(fetchers)]
    made: dict[PeerId, Someone] = {}
    for number, other in enumerate(others):
        if other.fate == "comes late":
            world.run(0.7)
        has = tuple(chunk for chunk in range(chunk_count(world.size_bytes)) if chunk % 8 < other.share)
        node = world.add(f"other {number}", rate=other.rate, has=has)
        node.lies, node.brags = other.fate == "lies", other.fate == "brags"
        made[node.name] = other
    world.run(1.1)
    if is_restarted:
        world.restart(here[0])
    for name, other in made.items():
        if other.fate == "dies":
            world.kill(world.nodes[name])
        elif other.fate == "freezes":
            world.nodes[name].is_frozen = True
    world.run(3600)
    for fetcher in here:
        assert fetcher.has.is_full
        assert fetcher.fetch is not None
        assert fetcher.fetch.is_done
        assert fetcher.fetch.wake_at == float("inf")


@pytest.mark.parametrize("seed", SEEDS)
def test_liars_alone_finish_no_fetch(seed: int) -> None:
    world = FetchWorld(FILE_SIZE, seed)
    liars = [world.add(f"liar {number}", has_all=True, lies=True) for number in range(3)]
    fetcher = world.add("fetcher")
    world.run(3600)
    assert fetcher.has.count == 0
    assert fetcher.fetch is not None
    assert fetcher.fetch.why_waiting(world.now) == "no peer offers this file now"
    assert sum(liar.sent_bytes for liar in liars) <= 3 * 16 * CHUNK_SIZE
