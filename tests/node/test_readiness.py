"""A node that cannot serve says why, and what a person should do."""

from __future__ import annotations

import pytest

from federation.backend import ModelInfo
from ledger.records import ModelName, ModelState
from node.readiness import why_not_ready


def model(name: str, state: ModelState, reason: str = "") -> ModelInfo:
    return ModelInfo(ModelName(name), state, ("chat",), 4096, reason)


@pytest.mark.parametrize("state", ["loaded", "cold"])
def test_one_model_that_can_answer_is_enough(state: ModelState) -> None:
    models = [model("broken", "failed", "not GGUF"), model("tiny", state), model("big", "loading")]
    assert why_not_ready(models, nodes_online=1, is_draining=False) is None


@pytest.mark.parametrize("state", ["loading", "fetching"])
def test_a_model_on_its_way_is_worth_waiting_for(state: ModelState) -> None:
    models = [model("broken", "failed", "x"), model("tiny", state)]
    reason = why_not_ready(models, nodes_online=1, is_draining=False)
    assert reason == "still loading tiny"


def test_models_that_all_failed_are_named_with_their_reasons() -> None:
    models = [model("a", "failed", "not GGUF"), model("b", "failed", "cut")]
    reason = why_not_ready(models, nodes_online=2, is_draining=False)
    assert reason == "no model could be loaded (a: not GGUF; b: cut)"


def test_a_node_without_models_says_how_to_add_one() -> None:
    alone = why_not_ready([], nodes_online=1, is_draining=False)
    among_others = why_not_ready([], nodes_online=3, is_draining=False)
    assert alone is not None
    assert "no other node is online" in alone
    assert among_others is not None
    assert "none of the 3 nodes" in among_others
    for reason in (alone, among_others):
        assert "localai-node models add FILE" in reason


@pytest.mark.parametrize("models", [[], [model("tiny", "loaded")]], ids=["no model", "a loaded model"])
def test_a_draining_node_says_so_whatever_others_have(models: list[ModelInfo]) -> None:
    reason = why_not_ready(models, nodes_online=2, is_draining=True)
    assert reason == "this node is draining: it finishes what runs and takes nothing new"
