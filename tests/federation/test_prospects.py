"""For which models that nobody can serve it is worth waiting."""

from __future__ import annotations

import math

import pytest

from federation.model_reference import ModelReference
from federation.prospects import RETURN_MAX, patience
from ledger.records import ModelName, ModelRecord, ModelState
from ledger.view import NodeState, NodeView
from p2p.peer import PeerId

MODEL = ModelName("tiny")
TINY = ModelReference(MODEL)


def node(state: NodeState, model: ModelState, *, last_seen: float | None = 1.0) -> NodeView:
    record = ModelRecord(MODEL, model, ("chat",))
    return NodeView(PeerId("a"), "a", state, "worker", "1", last_seen=last_seen, models=(record,))


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        (node("online", "fetching"), math.inf),
        (node("suspect", "loaded"), RETURN_MAX),
        (node("draining", "loaded"), RETURN_MAX),
        (node("offline", "loaded"), RETURN_MAX),
        (node("offline", "fetching"), RETURN_MAX),
        (node("offline", "loaded", last_seen=RETURN_MAX), 0.0),
        (node("offline", "loaded", last_seen=None), 0.0),
        (node("online", "failed"), 0.0),
        (node("suspect", "failed"), 0.0),
    ],
)
def test_it_is_worth_waiting_for_what_may_come_back(row: NodeView, seconds: float) -> None:
    assert patience([row], TINY, "chat") == seconds
    assert patience([row], ModelReference(ModelName("other")), "chat") == 0.0
    assert patience([row], TINY, "embeddings") == 0.0


def test_the_best_prospect_counts() -> None:
    assert patience([node("online", "failed"), node("suspect", "loaded")], TINY, "chat") == RETURN_MAX
    assert patience([], TINY, "chat") == 0.0
