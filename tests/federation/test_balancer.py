"""Picking among peers."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.backend import PolicyName
from federation.balancer import WORTH_WAITING, Candidate, Rank, least_used, pick
from federation.cost import Cost
from ledger.records import ModelName
from p2p.peer import PeerId

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
RANKS: tuple[Rank, ...] = get_args(Rank)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        peer=st.text("abcdef", min_size=1, max_size=2).map(PeerId),
        node_name=st.just("node"),
        model=st.just(ModelName("tiny")),
        state=st.sampled_from(["loaded", "loading", "cold"]),
        slots_total=st.integers(0, 4),
        leases=st.integers(0, 5),
        reported_busy=st.floats(0, 5),
        cost=st.builds(Cost, decode=st.floats(0, 100)),
        rank=st.sampled_from(RANKS),
        weight=st.floats(0.01, 100),
        slots_needed=st.integers(0, 3),
    ),
    max_size=6,
)


def candidate(peer: str, seconds: float = 1.0, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "peer": PeerId(peer),
        "node_name": peer,
        "model": ModelName("tiny"),
        "state": "loaded",
        "slots_total": 4,
        "leases": 0,
        "reported_busy": 0.0,
        "cost": Cost(decode=seconds),
    }
    return Candidate(**{**fields, **changes})


@given(CANDIDATES, st.sampled_from(POLICIES), st.integers())
def test_a_full_peer_is_never_picked(candidates: list[Candidate], policy: PolicyName, seed: int) -> None:
    picked = pick(candidates, policy, Random(seed))
    assert picked is None or not picked.is_full
    if picked is None and policy != "eta":
        assert all(candidate.is_full for candidate in candidates)


@given(CANDIDATES, st.integers())
def test_nobody_free_of_the_same_rank_is_cheaper_than_the_one_picked(
    candidates: list[Candidate], seed: int
) -> None:
    picked = pick(candidates, "eta", Random(seed))
    if picked is not None:
        free = [each for each in candidates if not each.is_full]
        alike = [each for each in free if each.rank == picked.rank]
        assert all(RANKS.index(each.rank) >= RANKS.index(picked.rank) for each in free)
        assert all(
            picked.cost.total / picked.weight <= each.cost.total / each.weight + 1e-8 for each in alike
        )


@given(CANDIDATES, st.sampled_from(POLICIES), st.integers())
def test_one_seed_picks_one_peer(candidates: list[Candidate], policy: PolicyName, seed: int) -> None:
    assert pick(candidates, policy, Random(seed)) == pick(candidates, policy, Random(seed))


def test_who_would_be_done_first_is_picked() -> None:
    slow, fast = candidate("slow", 9.0), candidate("fast", 2.0, leases=3)
    assert pick([slow, fast], "eta", Random(0)) == fast
    assert pick([slow, fast], "least_used", Random(0)) == slow


def test_a_request_waits_for_a_fast_peer_rather_than_go_to_a_slow_one() -> None:
    slow, fast = candidate("slow", 9.0), candidate("fast", 2.0, leases=4)
    assert pick([slow, fast], "eta", Random(0)) is None
    nearly = candidate("fast", 9.0 / WORTH_WAITING, leases=4)
    assert pick([slow, nearly], "eta", Random(0)) == slow
    assert pick([slow, fast], "least_used", Random(0)) == slow
    shunned = candidate("fast", 2.0, leases=4, rank="avoided")
    assert pick([slow, shunned], "eta", Random(0)) == slow


def test_what_is_preferred_comes_first_and_what_is_avoided_last() -> None:
    preferred, normal = candidate("a", 9.0, rank="preferred"), candidate("b", 1.0)
    avoided = candidate("c", 0.1, rank="avoided")
    assert pick([normal, avoided, preferred], "eta", Random(0)) == preferred
    assert pick([avoided, normal], "least_used", Random(0)) == normal
    assert pick([avoided], "random", Random(0)) == avoided


def test_a_weight_counts_as_speed() -> None:
    heavy, light = candidate("heavy", 3.0, weight=2.0), candidate("light", 2.0)
    assert pick([heavy, light], "eta", Random(0)) == heavy
    rng = Random(1)
    picks = Counter(getattr(pick([heavy, light], "random", rng), "peer", "") for _ in range(3000))
    assert picks["heavy"] == pytest.approx(2000, rel=0.06)


def test_a_share_counts_and_not_a_number_and_a_cold_model_comes_last() -> None:
    big, small = candidate("big", slots_total=8, leases=2), candidate("small", slots_total=2, leases=1)
    assert pick([big, small], "least_used", Random(0)) == big
    cold, loaded = candidate("cold", state="cold"), candidate("loaded", leases=3)
    assert pick([cold, loaded], "least_used", Random(0)) == loaded
    assert least_used(candidate("none", slots_total=0)) == 0


def test_a_peer_that_reports_itself_busy_is_asked_before_one_that_we_fill() -> None:
    reported, certain = candidate("reported", reported_busy=4.0), candidate("certain", leases=4)
    for policy in POLICIES:
        assert pick([reported, certain], policy, Random(0)) == reported


def test_a_request_for_several_choices_needs_as_many_slots() -> None:
    assert candidate("a", leases=2, slots_needed=3).is_full
    assert not candidate("a", leases=1, slots_needed=3).is_full
    # Who has fewer than that says so itself.
    assert not candidate("a", slots_total=2, slots_needed=3).is_full
    assert not candidate("a", leases=4, slots_needed=0).is_full


@pytest.mark.parametrize("policy", POLICIES)
def test_ties_are_broken_at_random(policy: PolicyName) -> None:
    rng = Random(7)
    candidates = [candidate(peer) for peer in "abcd"]
    picks = Counter(getattr(pick(candidates, policy, rng), "peer", "") for _ in range(1000))
    assert len(picks) == 4
    assert min(picks.values()) > 150
