"""What a person is told of the swarm: each change once, by name, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.records import ModelName, ModelRecord
from ledger.view import NodeState, NodeView
from node.news import changes
from p2p.peer import PeerId

ME, DESKTOP = PeerId("me"), PeerId("desktop-id")
QWEN = ModelRecord(ModelName("qwen"), "loading")


def node(peer: PeerId, state: NodeState = "online", *models: ModelRecord) -> dict[PeerId, NodeView]:
    return {peer: NodeView(peer, peer.removesuffix("-id"), state, "worker", "1", models=models)}


@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        ("offline", "online", ["desktop is online"]),
        ("online", "suspect", ["desktop does not answer"]),
        ("suspect", "offline", ["desktop is offline"]),
        ("suspect", "online", ["desktop is online"]),
        ("online", "draining", ["desktop is draining"]),
        ("online", "online", []),
    ],
)
def test_a_change_of_state_is_one_line_with_the_node_s_name(
    was: NodeState, is_now: NodeState, told: list[str]
) -> None:
    assert changes(node(DESKTOP, was), node(DESKTOP, is_now), ME) == told


def test_a_node_that_is_first_heard_of_offline_is_no_news() -> None:
    assert changes({}, node(DESKTOP, "offline"), ME) == []


def test_a_node_that_leaves_is_told() -> None:
    assert changes(node(DESKTOP), {}, ME) == ["desktop left the swarm"]


def test_our_own_models_are_told_when_they_are_ready_or_failed() -> None:
    loaded, failed = replace(QWEN, state="loaded"), replace(QWEN, state="failed", reason="not a GGUF file")
    assert changes(node(ME, "online", QWEN), node(ME, "online", loaded), ME) == ["model qwen is ready"]
    assert changes({}, node(ME, "online", failed), ME) == ["model qwen failed: not a GGUF file"]
    assert changes(node(ME, "online", loaded), node(ME, "online", loaded), ME) == []


def test_other_nodes_models_are_their_own_news() -> None:
    assert changes(node(DESKTOP), node(DESKTOP, "online", replace(QWEN, state="loaded")), ME) == []
