"""What a person says is wanted becomes a placement that can be carried out, or is refused with the reason."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ledger.placement import Plan, plan
from ledger.records import ModelName, ModelRecord, PlacementRecord
from ledger.view import NodeView
from node.errors import NodeError, WrongUse
from node.hardware import MODELS_MEMORY, memory_for_models
from node.models.memory_estimate import largest_model
from node.placement.hosts import hosts
from node.placement.wishes import (
    as_held_now,
    comes_back,
    nodes_called,
    placement_of,
    placement_rows,
    withdrawal,
)
from p2p.peer import PeerId

TINY = ModelName("tiny")
OLD, NEW = "aa" * 32, "bb" * 32
GB = 10**9


def copy(sha256: str = NEW, *, is_placed: bool = False) -> ModelRecord:
    return ModelRecord(
        TINY, "cold", size_bytes=GB, sha256=sha256, manifest=f"of {sha256[:2]}", is_placed=is_placed
    )


def node(name: str, *models: ModelRecord, takes: int = 10 * GB) -> NodeView:
    return NodeView(PeerId(f"id-{name}"), name, "online", "worker", "1", models=models, models_size_max=takes)


def ids(*names: str) -> tuple[PeerId, ...]:
    return tuple(PeerId(f"id-{name}") for name in names)


def test_what_is_wanted_is_the_file_that_most_have() -> None:
    swarm = [node("attic", copy(OLD)), node("cellar", copy()), node("den", copy())]
    assert placement_of(TINY, swarm, replicas=2) == PlacementRecord(
        TINY, replicas=2, sha256=NEW, manifest="of bb", size_bytes=GB
    )


@pytest.mark.parametrize("model", [None, replace(copy(), state="fetching"), replace(copy(), sha256="")])
def test_a_model_that_nobody_has_whole_is_to_be_pulled_first(model: ModelRecord | None) -> None:
    swarm = [node("attic", *([model] if model else [])), replace(node("cellar", copy()), state="offline")]
    with pytest.raises(NodeError, match="models pull"):
        placement_of(TINY, swarm, is_everywhere=True)


@pytest.mark.parametrize(
    ("hardware", "size_max"),
    [
        ({"memory_bytes": 32 * GB}, largest_model(memory_for_models(32 * GB))),
        ({"memory_bytes": 32 * GB, MODELS_MEMORY: 3 * GB}, largest_model(3 * GB)),
        ({"memory_bytes": 32 * GB, "gpu": ["RTX"]}, 32 * GB),
        ({"memory_bytes": 1}, 0),
        ({"memory_bytes": "much"}, math.inf),
        ({"gpu": ["RTX"]}, math.inf),
    ],
)
def test_what_a_node_can_load_follows_from_what_it_declared(
    hardware: dict[str, object], size_max: float
) -> None:
    [host] = hosts([replace(node("attic"), hardware=hardware)], ())
    assert host.model_size_max == size_max


def test_a_model_goes_where_it_can_be_loaded() -> None:
    small = replace(node("attic"), hardware={"memory_bytes": 64 * GB, MODELS_MEMORY: GB})
    made = plan(
        [PlacementRecord(TINY, replicas=2, sha256=NEW, size_bytes=GB)], hosts([small, node("den")], ())
    )
    assert made.holders[TINY] == ids("den")


def test_nodes_are_called_by_name_by_id_and_by_label() -> None:
    swarm = [
        node("attic", copy()),
        replace(node("cellar"), labels=("gpu", "quiet")),
        replace(node("den"), labels=("gpu",)),
        replace(node("hall"), labels=("gpu",), role="front"),
    ]
    assert placement_of(TINY, swarm, on=["gpu", "id-attic", "den"]).nodes == ids("attic", "cellar", "den")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("attik", "no node is called attik"), ("twin", "id-1, id-2"), ("hall", "runs no models")],
)
def test_a_node_that_cannot_be_meant_is_refused(text: str, reason: str) -> None:
    twins = [replace(node("twin"), peer=PeerId(f"id-{number}")) for number in (1, 2)]
    with pytest.raises(WrongUse, match=reason):
        nodes_called(text, [node("attic"), *twins, replace(node("hall"), role="front")])


@pytest.mark.parametrize(
    ("replicas", "on", "is_everywhere"),
    [(0, [], False), (1, ["attic"], False), (0, ["attic"], True), (1, [], True), (65, [], False)],
)
def test_one_way_to_say_how_many_is_enough(replicas: int, on: list[str], is_everywhere: bool) -> None:
    with pytest.raises(WrongUse):
        placement_of(TINY, [node("attic", copy())], replicas=replicas, on=on, is_everywhere=is_everywhere)


def test_a_row_tells_who_is_to_hold_it_and_who_does() -> None:
    swarm = [node("attic", copy()), node("cellar", copy(OLD)), replace(node("den", copy()), state="offline")]
    placement = PlacementRecord(TINY, replicas=2, sha256=NEW, size_bytes=GB)
    [row] = placement_rows([placement], Plan({TINY: ids("attic", "cellar")}, {TINY: "no room"}), swarm)
    assert row == {
        "model": "tiny",
        "replicas": 2,
        "nodes": [],
        "is_everywhere": False,
        "size_bytes": GB,
        "planned": ["id-attic", "id-cellar"],
        "held": ["id-attic", "id-den"],
        "problem": "no room",
    }


def test_what_is_not_planned_yet_is_planned_for_nobody() -> None:
    [row] = placement_rows([PlacementRecord(TINY, replicas=1)], Plan({}, {}), [])
    assert (row["planned"], row["held"], row["problem"]) == ([], [], "")


def test_unplacing_deletes_only_what_the_swarm_put_there() -> None:
    swarm = [node("attic", copy()), node("cellar", copy(is_placed=True)), node("den")]
    fate = withdrawal(TINY, swarm)
    assert (fate.deleted, fate.kept) == (ids("cellar"), ids("attic"))


def test_a_copy_is_made_of_a_file_whose_settings_changed_since_it_was_placed() -> None:
    placed = PlacementRecord(TINY, replicas=2, sha256=NEW, manifest="of bb", size_bytes=GB)
    edited = replace(copy(), manifest="with other settings")
    unchanged = [node("attic", edited), node("cellar", edited), node("den", copy())]
    assert as_held_now(placed, unchanged) == placed
    assert as_held_now(placed, unchanged[:2]).manifest == "with other settings"
    # Another file is no copy, and a holder that comes back has it.
    gone = [node("attic", copy(OLD)), replace(node("den", copy()), state="offline")]
    assert as_held_now(placed, gone) == placed


def test_what_is_deleted_comes_back_only_where_the_swarm_would_put_it_again() -> None:
    me = PeerId("id-attic")
    elsewhere = node("cellar", copy(is_placed=True))
    wanted = [PlacementRecord(TINY, replicas=2, sha256=NEW, size_bytes=GB)]
    here = hosts([node("attic", copy()), elsewhere], ())
    assert comes_back(TINY, me, wanted, here)
    assert not comes_back(TINY, me, [], here)
    assert not comes_back(TINY, me, wanted, hosts([node("attic", copy(), takes=0), elsewhere], ()))
    # Three could hold two copies: it comes back if one of the others has been away for long.
    three = [node("attic", copy(is_placed=True)), elsewhere, node("den", copy())]
    assert not comes_back(TINY, me, wanted, hosts(three, ()))
    assert comes_back(TINY, me, wanted, hosts(three, {PeerId("id-cellar")}))
