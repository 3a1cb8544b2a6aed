"""Picking among peers."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.balancer import POLICIES, Candidate, Policy, least_used, pick, random
from p2p.peer import PeerId

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        peer=st.text("abcdef", min_size=1, max_size=2).map(PeerId),
        node_name=st.just("node"),
        state=st.sampled_from(["loaded", "loading", "cold"]),
        slots_total=st.integers(0, 4),
        leases=st.integers(0, 5),
        reported_busy=st.integers(0, 5),
    ),
    max_size=6,
)


def candidate(peer: str, **changes: object) -> Candidate:
    fields: dict[str, object] = {
        "peer": PeerId(peer),
        "node_name": peer,
        "state": "loaded",
        "slots_total": 4,
        "leases": 0,
        "reported_busy": 0,
    }
    return Candidate(**{**fields, **changes})  # type: ignore[arg-type]  # names are the test's own


@given(CANDIDATES, st.sampled_from(sorted(POLICIES)), st.integers())
def test_a_full_peer_is_never_picked(candidates: list[Candidate], policy: str, seed: int) -> None:
    picked = pick(candidates, POLICIES[policy], Random(seed))
    if picked is None:
        assert all(candidate.is_full for candidate in candidates)
    else:
        assert not picked.is_full


@given(CANDIDATES, st.integers())
def test_nobody_free_is_cheaper_than_the_one_picked(candidates: list[Candidate], seed: int) -> None:
    picked = pick(candidates, least_used, Random(seed))
    if picked is not None:
        assert all(least_used(picked) <= least_used(other) for other in candidates if not other.is_full)


@given(CANDIDATES, st.integers())
def test_one_seed_picks_one_peer(candidates: list[Candidate], seed: int) -> None:
    assert pick(candidates, random, Random(seed)) == pick(candidates, random, Random(seed))


def test_the_share_of_slots_counts_not_their_number() -> None:
    big, small = candidate("big", slots_total=8, leases=2), candidate("small", slots_total=2, leases=1)
    assert pick([big, small], least_used, Random(0)) == big


def test_what_others_do_there_counts_too() -> None:
    quiet, busy = candidate("quiet", leases=1), candidate("busy", reported_busy=3)
    assert pick([quiet, busy], least_used, Random(0)) == quiet


def test_our_own_requests_are_not_counted_twice() -> None:
    assert candidate("a", leases=2, reported_busy=2).slots_busy == 2


def test_a_peer_that_was_full_when_it_last_said_so_is_asked_when_nobody_else_is_free() -> None:
    reported, certain = candidate("reported", reported_busy=4), candidate("certain", leases=4)
    assert pick([reported, certain], least_used, Random(0)) == reported


def test_a_loaded_model_goes_before_one_that_must_be_loaded() -> None:
    cold, loaded = candidate("cold", state="cold"), candidate("loaded", leases=3)
    assert pick([cold, loaded], least_used, Random(0)) == loaded
    assert pick([cold], least_used, Random(0)) == cold


@pytest.mark.parametrize("policy", [least_used, random])
def test_equals_share_the_work(policy: Policy) -> None:
    rng = Random(0)
    equals = [candidate(name) for name in "abc"]
    counts = Counter(picked.peer for _ in range(300) if (picked := pick(equals, policy, rng)))
    assert min(counts.values()) > 60
    assert len(counts) == 3
