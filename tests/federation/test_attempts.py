"""When to ask another peer, and what to say when there is none."""

from __future__ import annotations

import pytest

from federation.attempts import Attempts
from federation.backend import InferenceRequest, RequestId
from federation.balancer import Candidate
from federation.errors import (
    Busy,
    Failed,
    FederationError,
    Misbehaved,
    ModelNotFound,
    ModelUnavailable,
    PeerGone,
    Refused,
)
from ledger.records import ModelName
from p2p.peer import PeerId

TINY = ModelName("tiny")


def attempts_at_tiny() -> Attempts:
    return Attempts(InferenceRequest("chat", RequestId("request"), TINY), deadline=600.0)


def candidate(name: str) -> Candidate:
    return Candidate(
        PeerId(name), name, ModelName("tiny"), "loaded", slots_total=1, leases=0, reported_busy=0
    )


MANY = [candidate(f"peer{number}") for number in range(20)]


def after(*errors: FederationError) -> Attempts:
    attempts = attempts_at_tiny()
    for asked, error in zip(MANY, errors, strict=False):
        attempts.note(asked, error)
    return attempts


def test_who_was_asked_is_not_asked_again() -> None:
    assert after(Refused("draining", "going")).remaining(MANY) == MANY[1:]


@pytest.mark.parametrize(
    "error", [Failed("died"), PeerGone("gone"), Misbehaved("odd"), ModelUnavailable("broken")]
)
def test_three_failures_are_enough(error: FederationError) -> None:
    assert after(error, error).remaining(MANY) == MANY[2:]
    assert after(error, error, error).remaining(MANY) == []


def test_refusals_do_not_count_as_failures_but_have_a_bound_too() -> None:
    going = Refused("draining", "going")
    assert after(*[going] * 9).remaining(MANY) == MANY[9:]
    assert after(*[going] * 10).remaining(MANY) == []


def test_one_that_has_no_slot_may_be_asked_again_but_not_for_ever() -> None:
    attempts = after(*[Refused("busy", "full")] * 9)
    assert (attempts.remaining(MANY), attempts.count, attempts.left_out) == (MANY, 9, frozenset())
    for _ in range(256 - 9):
        attempts.note(MANY[0], Busy("full"))
    assert attempts.remaining(MANY) == []
    assert type(attempts.verdict([], [])) is Busy


def test_nobody_has_it() -> None:
    assert type(attempts_at_tiny().verdict([], [])) is ModelNotFound


def test_whoever_had_it_has_it_no_more() -> None:
    assert type(after(Refused("no_such_model", "gone")).verdict([], [])) is ModelNotFound


def test_failures_are_told_with_their_reasons() -> None:
    verdict = after(Failed("the engine died"), Refused("draining", "going")).verdict(
        ["b is still fetching it"], []
    )
    assert type(verdict) is ModelUnavailable
    assert str(verdict) == (
        "tiny cannot run now: peer0: the engine died; peer1: going; b is still fetching it"
    )


def test_nodes_that_have_it_and_cannot_serve_it_make_it_unavailable_not_unknown() -> None:
    assert type(attempts_at_tiny().verdict(["b is about to stop"], [])) is ModelUnavailable


def test_who_asks_for_what_nobody_has_is_told_what_there_is() -> None:
    said = str(attempts_at_tiny().verdict([], [ModelName("huge"), ModelName("large")]))
    assert said == "no node of the swarm serves tiny; there is huge, large"


def test_an_error_names_ten_of_a_kind_and_counts_the_others() -> None:
    names = [ModelName(f"model{number:02}") for number in range(13)]
    assert str(attempts_at_tiny().verdict([], names)).endswith("model08, model09, and 3 more")
    assert str(attempts_at_tiny().verdict(names, [])).endswith("model08; model09; and 3 more")
