"""Words for why a request would go where it would go."""

from __future__ import annotations

from typing import Any

import pytest

from federation.backend import PolicyName
from federation.balancer import Candidate
from federation.cost import Cost
from federation.explain import explain
from federation.model_reference import ModelReference
from federation.router import Survey
from federation.work import Work
from ledger.records import ModelName
from p2p.peer import PeerId

TINY = ModelName("tiny")


def candidate(name: str, seconds: float, **changes: Any) -> Candidate:
    fields = {"state": "loaded", "slots_total": 4, "leases": 0, "reported_busy": 0.0, **changes}
    return Candidate(PeerId(name), name, TINY, cost=Cost(decode=seconds), **fields)


def because(*candidates: Candidate, policy: PolicyName = "eta") -> str:
    said = explain(Survey(Work(ModelReference(TINY)), candidates, ()), policy)
    return str(said["because"])


A, B = candidate("a", 1.0), candidate("b", 2.0)
FULL = candidate("full", 0.5, leases=4)


@pytest.mark.parametrize(
    ("candidates", "policy", "words"),
    [
        ((), "eta", "no node can serve it now"),
        ((A, B), "eta", "a would be done first: in 1.00 s, b in 2.00 s"),
        (
            (A, candidate("c", 1.5, weight=3.0)),
            "eta",
            "c would be done first: in 1.50 s, which its weight of 3 divides, a in 1.00 s",
        ),
        ((A,), "eta", "only a has a free slot"),
        ((A, candidate("c", 9.0, rank="preferred")), "eta", "only c is preferred"),
        ((FULL,), "eta", "every slot is taken: it waits for the first that is free"),
        (
            (A, FULL),
            "eta",
            "it waits for a slot of full: with the wait that takes 0.50 s, and a, which has one, 1.00 s",
        ),
        (
            (
                A,
                FULL,
                candidate("shunned", 0.1, leases=4, rank="avoided"),
                candidate("avoided", 0.2, rank="avoided"),
            ),
            "eta",
            "it waits for a slot of full: with the wait that takes 0.50 s, and a, which has one, 1.00 s",
        ),
        ((A, B), "random", "any of them, at random"),
        ((A, candidate("c", 1.0, weight=3.0)), "random", "any of them, at random, by weight"),
        (
            (candidate("c", 9.0, leases=1), candidate("d", 1.0, leases=2)),
            "least_used",
            "c is the least used by its weight: 25 % of its slots are taken",
        ),
    ],
)
def test_the_reason_is_one_sentence(
    candidates: tuple[Candidate, ...], policy: PolicyName, words: str
) -> None:
    assert because(*candidates, policy=policy) == words


def test_each_term_has_a_word_and_those_of_no_time_are_left_out() -> None:
    cost = Cost(slot=1, queue=1, load=1, prefill=1, decode=1, travel=1, silence=1, caution=1, failures=1)
    whole = Candidate(PeerId("a"), "a", TINY, "cold", 4, 1, 0.0, cost=cost)
    survey = Survey(Work(ModelReference(TINY)), (whole, A), ())
    rows = explain(survey, "eta")["candidates"]
    assert [len(row["terms"]) for row in rows] == [1, 9]
    assert (rows[1]["seconds"], rows[1]["first_token_seconds"]) == (9, 8)
