"""Why a request would go where it would go, for a person.

Says what `balancer.pick` would do with a survey, as plain data: what each candidate would take and
why, who would be asked and why, and who cannot be asked and why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Any

from federation.backend import PolicyName
from federation.balancer import RANKS, Candidate, least_used, pick
from federation.router import Survey

_WORDS = {
    "slot": "waits until a slot is free",
    "queue": "waits until the prompts before it are read",
    "load": "the model is loaded first",
    "prefill": "reads the prompt, without what the node has kept of it",
    "decode": "writes the answer, beside those that run there",
    "travel": "the way there and back",
    "silence": "an answer of ours there has been silent for longer than usual",
    "caution": "the node was not measured much, so it gets one request after the other",
    "failures": "it failed lately, so one may ask in vain",
}
"""Of each term of a cost."""


def explain(survey: Survey, policy: PolicyName) -> dict[str, Any]:
    """The content of `/api/route/explain`, but for the model's name."""
    candidates = sorted(survey.candidates, key=lambda each: each.cost.total / each.weight)
    # Where luck decides nothing depends on this draw: `because` says so.
    chosen = pick(candidates, policy, Random(0))  # noqa: S311
    return {
        "policy": policy,
        "prompt_tokens": round(survey.work.prompt_tokens),
        "answer_tokens": round(survey.work.answer_tokens),
        "chosen": None if chosen is None or policy == "random" else chosen.node_name,
        "because": _because(candidates, chosen, policy),
        "candidates": [_row(each) for each in candidates],
        "excluded": [
            {"node": each.node_name, "id": each.peer, "why": f"{each.node_name} {each.reason}"}
            for each in survey.excluded
        ],
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    cost = candidate.cost
    terms = [(term.name, getattr(cost, term.name)) for term in fields(cost)]
    return {
        "node": candidate.node_name,
        "id": candidate.peer,
        "seconds": round(cost.total, 4),
        "first_token_seconds": round(cost.first_token, 4),
        "terms": [
            {"term": name, "seconds": round(seconds, 4), "why": _WORDS[name]}
            for name, seconds in terms
            if seconds > 0
        ],
        "slots_total": candidate.slots_total,
        "slots_ours": candidate.leases,
        "slots_of_others": round(candidate.reported_busy, 2),
        "is_full": candidate.is_full,
        "rank": candidate.rank,
        "weight": candidate.weight,
    }


def _because(candidates: Sequence[Candidate], chosen: Candidate | None, policy: PolicyName) -> str:
    if not candidates:
        return "no node can serve it now"
    free = [each for each in candidates if not each.is_full]
    if not free:
        return "every slot is taken: it waits for the first that is free"
    if chosen is None:
        first = min(RANKS[each.rank] for each in free)
        fast = next(each for each in candidates if each.is_full and RANKS[each.rank] <= first)
        slow = next(each for each in free if RANKS[each.rank] == first)
        return (
            f"it waits for a slot of {fast.node_name}: with the wait that takes {_seconds(fast)}, and"
            f" {slow.node_name}, which has one, {_seconds(slow)}"
        )
    others = [each for each in free if each.rank == chosen.rank and each != chosen]
    if not others:
        alone = len(free) == 1
        return f"only {chosen.node_name} {'has a free slot' if alone else f'is {chosen.rank}'}"
    if policy == "random":
        return "any of them, at random" + ("" if len({each.weight for each in free}) == 1 else ", by weight")
    if policy == "least_used":
        share = round(100 * least_used(chosen))
        return f"{chosen.node_name} is the least used by its weight: {share} % of its slots are taken"
    return (
        f"{chosen.node_name} would be done first: in {_seconds(chosen)}, {others[0].node_name} in"
        f" {_seconds(others[0])}"
    )


def _seconds(candidate: Candidate) -> str:
    weighted = "" if candidate.weight == 1 else f", which its weight of {candidate.weight:g} divides"
    return f"{candidate.cost.total:.2f} s{weighted}"
