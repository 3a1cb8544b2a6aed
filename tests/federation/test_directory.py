"""From the view of the swarm to candidates, models and reasons."""

from __future__ import annotations

from typing import Any

from federation import directory
from federation.lease import Leases
from ledger.records import Load, ModelName, ModelRecord
from ledger.view import NodeView
from p2p.peer import PeerId

ME = PeerId("me")
TINY = ModelName("tiny")


def node(name: str, *models: ModelRecord, **changes: Any) -> NodeView:
    fields = {"state": "online", "role": "worker", "version": "1", "is_connected": True, **changes}
    return NodeView(peer=PeerId(name), name=name, models=models, **fields)


def tiny(**changes: Any) -> ModelRecord:
    return ModelRecord(**{"name": TINY, "state": "loaded", "slots": 4, **changes})


def peers(nodes: list[NodeView]) -> list[str]:
    return [candidate.peer for candidate in directory.candidates(nodes, TINY, Leases(), ME)]


def test_only_online_nodes_are_candidates() -> None:
    states = ["online", "suspect", "draining", "offline"]
    assert peers([node(state, tiny(), state=state) for state in states]) == ["online"]


def test_a_node_we_have_no_connection_to_is_a_candidate_where_no_other_is() -> None:
    near, far = node("near", tiny(state="cold")), node("far", tiny(), is_connected=False)
    assert peers([far, near]) == ["near"]
    assert peers([far, node("near", tiny(state="failed"))]) == ["far"]
    assert peers([far]) == ["far"]
    assert directory.obstacles([far], TINY) == []


def test_a_node_without_a_connection_must_be_online_too() -> None:
    states = ["suspect", "draining", "offline"]
    assert peers([node(state, tiny(), state=state, is_connected=False) for state in states]) == []


def test_a_model_that_only_a_node_without_a_connection_has_is_listed() -> None:
    (listed,) = directory.models([node("far", tiny(), is_connected=False)])
    assert (listed.name, listed.state) == (TINY, "loaded")


def test_a_model_that_cannot_be_loaded_now_is_no_candidate() -> None:
    states = ["loaded", "loading", "cold", "fetching", "failed"]
    assert peers([node(state, tiny(state=state)) for state in states]) == ["loaded", "loading", "cold"]


def test_a_hash_chooses_among_files_of_one_name() -> None:
    ours, theirs = "a" * 64, "b" * 64
    nodes = [
        node("a", tiny(sha256=ours)),
        node("b", tiny(sha256=theirs)),
        node("c", tiny()),
        node("d", tiny(sha256=ours), state="draining"),
        node("e", tiny(sha256=theirs), state="draining"),
    ]
    reference = ModelName(f"tiny@sha256:{ours}")
    found = directory.candidates(nodes, reference, Leases(), ME)
    assert [candidate.peer for candidate in found] == ["a"]
    assert directory.obstacles(nodes, reference) == ["d is about to stop"]
    assert peers(nodes) == ["a", "b", "c"]
    assert [model.name for model in directory.models(nodes)] == [TINY]


def test_other_models_are_not_candidates() -> None:
    assert peers([node("a", ModelRecord(ModelName("large"), "loaded"))]) == []


def test_slots_are_as_reported_and_until_then_as_recorded() -> None:
    reported = node("a", tiny(), loads={TINY: Load(slots_total=2, slots_busy=1)})
    recorded = node("b", tiny())
    unloaded = node("c", tiny(state="cold"), loads={TINY: Load(slots_total=0, slots_busy=0)})
    found = directory.candidates([reported, recorded, unloaded], TINY, Leases(), ME)
    assert [(one.slots_total, one.slots_busy) for one in found] == [(2, 1), (4, 0), (4, 0)]


def test_our_own_leases_count_before_any_report() -> None:
    leases = Leases()
    with leases.hold(PeerId("a"), TINY):
        (found,) = directory.candidates([node("a", tiny())], TINY, leases, ME)
    assert found.slots_busy == 1


def test_our_own_worker_is_a_candidate_like_any_other() -> None:
    found = directory.candidates([node("me", tiny()), node("a", tiny())], TINY, Leases(), ME)
    assert [candidate.is_local for candidate in found] == [True, False]


def test_each_model_is_listed_once_in_its_best_state() -> None:
    listed = directory.models(
        [
            node("a", tiny(state="cold", capabilities=("completion",), context_size=1024)),
            node(
                "b", tiny(capabilities=("chat",), context_size=4096), ModelRecord(ModelName("aaa"), "loaded")
            ),
            node("c", tiny(state="failed", reason="not GGUF")),
        ]
    )
    assert [model.name for model in listed] == ["aaa", "tiny"]
    assert listed[1].state == "loaded"
    assert listed[1].capabilities == ("chat", "completion")
    assert listed[1].context_size == 4096
    assert listed[1].reason == ""


def test_models_of_nodes_that_may_be_dead_are_not_listed() -> None:
    states = ["suspect", "draining", "offline"]
    assert directory.models([node(state, tiny(), state=state) for state in states]) == []


def test_a_failed_model_is_listed_with_its_reason() -> None:
    (listed,) = directory.models([node("a", tiny(state="failed", reason="not GGUF"))])
    assert (listed.state, listed.reason) == ("failed", "not GGUF")


def test_obstacles_say_why_and_who_is_offline_comes_last() -> None:
    nodes = [
        node("0", tiny(), state="offline"),
        node("a", tiny(state="failed", reason="not GGUF")),
        node("b", tiny(state="fetching")),
        node("c", tiny(), state="draining"),
        node("d", tiny(), state="suspect"),
        node("e", tiny()),
        node("f", state="offline"),
    ]
    assert directory.obstacles(nodes, TINY) == [
        "a could not load it: not GGUF",
        "b is still fetching it",
        "c is about to stop",
        "d does not answer",
        "0 has it and is offline",
    ]


def test_a_model_is_unfit_where_no_node_can_use_it_so() -> None:
    nodes = [node("a", tiny(capabilities=("chat",)))]
    assert directory.is_unfit(nodes, TINY, "embeddings")
    assert not directory.is_unfit(nodes, TINY, "tokenize")
    assert not directory.is_unfit([], TINY, "embeddings")
    nodes.append(node("b", tiny(capabilities=("embeddings",)), state="offline"))
    assert not directory.is_unfit(nodes, TINY, "embeddings")
    assert directory.candidates(nodes, TINY, Leases(), ME, "embeddings") == []
