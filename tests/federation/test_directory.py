"""What the view of the swarm means for one model."""

from __future__ import annotations

from typing import Any

import pytest

from federation import directory
from federation.model_reference import ModelReference
from ledger.records import AliasRecord, ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId

TINY = ModelName("tiny")


def node(name: str, *models: ModelRecord, **changes: Any) -> NodeView:
    fields = {"state": "online", "role": "worker", "version": "1", "is_connected": True, **changes}
    return NodeView(peer=PeerId(name), name=name, models=models, **fields)


def tiny(**changes: Any) -> ModelRecord:
    return ModelRecord(**{"name": TINY, "state": "loaded", "slots": 4, **changes})


def holders(nodes: list[NodeView], wanted: str = TINY) -> list[str]:
    return [node.name for node, _ in directory.holders(nodes, ModelReference.parse(wanted))]


def test_a_hash_chooses_among_files_of_one_name() -> None:
    ours, theirs = "a" * 64, "b" * 64
    nodes = [node("a", tiny(sha256=ours)), node("b", tiny(sha256=theirs)), node("c", tiny())]
    assert holders(nodes) == ["a", "b", "c"]
    assert holders(nodes, f"tiny@sha256:{ours}") == ["a"]
    assert holders(nodes, "large") == []
    assert directory.file_of(nodes, PeerId("b"), ModelReference(TINY)) == theirs
    assert directory.file_of(nodes, PeerId("c"), ModelReference(TINY)) == ""
    assert directory.file_of(nodes, PeerId("d"), ModelReference(TINY)) == ""


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (node("a", tiny()), ""),
        (node("a", tiny(state="cold")), ""),
        (node("a", tiny(state="loading")), ""),
        (node("a", tiny(state="failed", reason="not GGUF")), "could not load it: not GGUF"),
        (node("a", tiny(state="fetching")), "is still fetching it"),
        (node("a", tiny(), state="draining"), "is about to stop"),
        (node("a", tiny(), state="suspect"), "does not answer"),
        (node("a", tiny(), state="offline"), "has it and is offline"),
    ],
)
def test_a_node_that_cannot_serve_it_has_a_reason(row: NodeView, reason: str) -> None:
    assert directory.obstacle(row, row.models[0], "completion") == reason


def test_a_model_is_unfit_where_no_node_can_use_it_so() -> None:
    nodes, wanted = [node("a", tiny(capabilities=("chat",)))], ModelReference(TINY)
    assert (
        directory.obstacle(nodes[0], nodes[0].models[0], "embeddings")
        == "has it, and it is not for embeddings"
    )
    assert directory.is_unfit(nodes, wanted, "embeddings")
    assert not directory.is_unfit(nodes, wanted, "tokenize")
    assert not directory.is_unfit([], wanted, "embeddings")
    nodes.append(node("b", tiny(capabilities=("embeddings",)), state="offline"))
    assert not directory.is_unfit(nodes, wanted, "embeddings")
    assert [row.name for row, _ in directory.fit_holders(nodes, wanted, "embeddings")] == ["b"]


def test_a_node_goes_by_its_name_and_its_labels() -> None:
    row = node("desktop", labels=("gpu",))
    assert directory.is_named(row, ("cellar", "desktop"))
    assert directory.is_named(row, ("gpu",))
    assert not directory.is_named(row, ("gp", "desk"))


def test_each_model_is_listed_once_in_its_best_state() -> None:
    large = ModelRecord(ModelName("aaa"), "loaded")
    nodes = [
        node("a", tiny(state="cold", capabilities=("completion",), context_size=1024)),
        node("b", tiny(capabilities=("chat",), context_size=4096), large),
        node("c", tiny(state="failed", reason="not GGUF")),
    ]
    listed = directory.models(nodes, {})
    assert [model.name for model in listed] == ["aaa", "tiny"]
    assert listed[1].state == "loaded"
    assert listed[1].capabilities == ("chat", "completion")
    assert listed[1].context_size == 4096
    assert listed[1].reason == ""


def test_models_of_nodes_that_may_be_dead_are_not_listed() -> None:
    states = ["suspect", "draining", "offline"]
    assert directory.models([node(state, tiny(), state=state) for state in states], {}) == []
    (listed,) = directory.models([node("far", tiny(), is_connected=False)], {})
    assert (listed.name, listed.state) == (TINY, "loaded")


def test_a_failed_model_is_listed_with_its_reason() -> None:
    (listed,) = directory.models([node("a", tiny(state="failed", reason="not GGUF"))], {})
    assert (listed.state, listed.reason) == ("failed", "not GGUF")


def test_an_alias_is_listed_where_its_model_is_and_stands_for_it() -> None:
    def alias(name: str, model: str) -> dict[ModelName, AliasRecord]:
        return {ModelName(name): AliasRecord(ModelName(name), ModelName(model))}

    nodes = [node("a", tiny(), ModelRecord(ModelName("large"), "cold"))]
    aliases = alias("fast", f"tiny@sha256:{'a' * 64}") | alias("gone", "nobody") | alias("large", "nobody")
    listed = directory.models(nodes, aliases)
    assert [(model.name, model.state) for model in listed] == [("fast", "loaded"), ("tiny", "loaded")]
    assert [model.name for model in directory.models(nodes, alias("b", "tiny") | alias("a", "b"))] == [
        "b",
        "large",
        "tiny",
    ]
