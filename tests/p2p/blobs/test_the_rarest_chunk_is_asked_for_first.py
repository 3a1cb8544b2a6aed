"""Wanted chunks: what a seeder is asked for is rare, wanted, and there."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.blobs.have_map import HaveMap
from p2p.blobs.wanted_chunks import WantedChunks
from p2p.peer import PeerId

ALICE, BOB, ME = PeerId("alice"), PeerId("bob"), PeerId("me")
COUNT = 13
PEERS = [PeerId(name) for name in "abc"]
chunks = st.integers(0, COUNT - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(chunks, max_size=COUNT)),
        st.tuples(st.just("discard"), chunks),
        st.tuples(st.just("has"), st.sampled_from(PEERS), st.sets(chunks)),
        st.tuples(st.just("gained"), st.sampled_from(PEERS), st.lists(chunks, max_size=3)),
        st.tuples(st.just("lacks"), st.sampled_from(PEERS), chunks),
        st.tuples(st.just("gone"), st.sampled_from(PEERS)),
        st.tuples(st.just("take"), st.sampled_from(PEERS)),
    ),
    max_size=40,
)


def have(*there: int) -> HaveMap:
    result = HaveMap(COUNT)
    for chunk in there:
        result.add(chunk)
    return result


def test_of_what_a_seeder_has_the_rarest_comes_first() -> None:
    wanted = WantedChunks(COUNT, ME)
    wanted.add(range(COUNT))
    wanted.seeder_has(ALICE, have(1, 2, 3))
    wanted.seeder_has(BOB, have(2, 3, 4))
    taken = [wanted.take(ALICE, Random(1)) for _ in range(4)]
    assert taken[0] == 1
    assert set(taken[1:3]) == {2, 3}
    assert taken[3] is None
    assert len(wanted) == COUNT - 3


def test_of_equally_rare_ones_each_of_our_share_is_as_likely() -> None:
    rng, counts = Random(2), dict.fromkeys([1, 5, 11], 0)
    for _ in range(3000):
        wanted = WantedChunks(COUNT, ME)
        wanted.seeder_has(ALICE, have(*counts, 2, 4, 6))
        wanted.add(range(COUNT))
        taken = wanted.take(ALICE, rng)
        assert taken is not None
        counts[taken] += 1
    assert min(counts.values()) > 900


@pytest.mark.parametrize("fetchers", [2, 3, 4])
def test_those_who_see_each_other_fetch_take_different_chunks_of_one_seeder(fetchers: int) -> None:
    taken: list[int | None] = []
    names = [PeerId(f"fetcher {number}") for number in range(fetchers)]
    for me in names:
        wanted = WantedChunks(COUNT, me)
        wanted.add(range(COUNT))
        wanted.seeder_has(ALICE, have(*range(COUNT)))
        for other in names:
            if other != me:
                wanted.seeder_has(other, have())
        taken += [wanted.take(ALICE, Random(1)) for _ in range(COUNT // fetchers)]
        # And then those of the others, should they not get them.
        assert None not in [wanted.take(ALICE, Random(1)) for _ in range(COUNT - COUNT // fetchers)]
    assert len(set(taken)) == len(taken)


def test_what_every_seeder_has_comes_in_order_but_for_the_first_few() -> None:
    wanted = WantedChunks(COUNT, ME)
    wanted.add(range(COUNT))
    wanted.seeder_has(ALICE, have(*range(COUNT)))
    wanted.seeder_has(BOB, have(*range(COUNT)))
    rng = Random(3)
    first = [wanted.take(ALICE, rng) for _ in range(4)]
    rest = [wanted.take((ALICE, BOB)[place % 2], rng) for place in range(4, COUNT)]
    assert first != list(range(4))
    assert rest == [chunk for chunk in range(COUNT) if chunk not in first]


def test_it_does_not_matter_what_was_known_first() -> None:
    early, late = WantedChunks(COUNT, ME), WantedChunks(COUNT, ME)
    early.seeder_has(ALICE, have(3))
    early.add([3, 4])
    late.add([3, 4])
    late.seeder_has(ALICE, have(3))
    assert early._levels == late._levels
    assert early.nobody_has == 1


@settings(max_examples=200)
@given(steps)
def test_it_is_what_sets_would_say(course: list[tuple[object, ...]]) -> None:
    rng = Random(3)
    wanted, plain, has = WantedChunks(COUNT, ME), set[int](), dict[PeerId, set[int]]()
    for step in course:
        match step:
            case "add", list(added):
                wanted.add(added)
                plain |= set(added)
            case "discard", int(chunk):
                wanted.discard(chunk)
                plain.discard(chunk)
            case "has", str(peer), set(there):
                wanted.seeder_has(PeerId(peer), have(*there))
                has[PeerId(peer)] = set(there)
            case "gained", str(peer), list(gained) if peer in has:
                wanted.seeder_gained(PeerId(peer), gained)
                has[PeerId(peer)] |= set(gained)
            case "lacks", str(peer), int(chunk):
                wanted.seeder_lacks(PeerId(peer), chunk)
                has.get(PeerId(peer), set()).discard(chunk)
            case "gone", str(peer):
                wanted.seeder_gone(PeerId(peer))
                has.pop(PeerId(peer), None)
            case "take", str(peer):
                taken = wanted.take(PeerId(peer), rng)
                useful = plain & has.get(PeerId(peer), set())
                assert (taken is None) == (not useful)
                if taken is not None:
                    holders = {each: sum(each in there for there in has.values()) for each in useful}
                    assert holders[taken] == min(holders.values())
                    plain.remove(taken)
        assert len(wanted) == len(plain)
        assert wanted.nobody_has == sum(not any(c in there for there in has.values()) for c in plain)
