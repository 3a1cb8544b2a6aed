"""Commands about placements are for admins, answer in names, and lose no last copy unasked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from ledger.errors import NotAnAdmin
from ledger.placement import Plan, plan
from ledger.records import ModelName, ModelRecord, PlacementRecord, placement_key
from ledger.view import NodeView
from node.control_placement import PlacementCommands
from node.errors import NodeError, WrongUse
from node.parts import Parts
from node.placement.hosts import hosts
from p2p.peer import PeerId

TINY = ModelName("tiny")
GB = 10**9


@dataclass
class House:
    """A node of a swarm in which `attic` and `cellar` have the model, and `den` would take it in."""

    is_admin: bool = True
    owners: tuple[str, ...] = ("attic",)
    """Those who have it because a person put it there."""
    placements: dict[str, PlacementRecord] = field(default_factory=dict)

    def nodes(self) -> list[NodeView]:
        return [self._node("attic"), self._node("cellar"), self._node("den", has_it=False)]

    def placement_records(self) -> list[PlacementRecord]:
        return list(self.placements.values())

    def put_shared(self, placement: PlacementRecord) -> None:
        self._require_admin()
        self.placements[placement_key(placement.model)] = placement

    def delete_shared(self, key: str) -> None:
        self._require_admin()
        del self.placements[key]

    def plan_now(self) -> Plan:
        return plan(self.placement_records(), hosts(self.nodes(), ()))

    def swarm(self) -> dict[str, Any]:
        return {"nodes": [{"id": node.peer} for node in self.nodes()], "placements": ["made a while ago"]}

    def ask(self, command: str, **arguments: object) -> Mapping[str, Any]:
        parts = SimpleNamespace(ledger=self, view=self, plan_now=self.plan_now, swarm=self.swarm)
        commands = PlacementCommands(cast("Parts", parts)).handlers()
        answer: Mapping[str, Any] = trio.run(commands[command], arguments)
        return answer

    def place(self, **said: object) -> Mapping[str, Any]:
        return self.ask(
            "models.place", **{"name": "tiny", "replicas": 0, "on": [], "everywhere": False, **said}
        )

    def _node(self, name: str, *, has_it: bool = True) -> NodeView:
        model = ModelRecord(
            TINY,
            "cold",
            size_bytes=GB,
            sha256="ab" * 32,
            manifest="cd" * 32,
            is_placed=name not in self.owners,
        )
        models = (model,) if has_it else ()
        return NodeView(
            PeerId(f"id-{name}"), name, "online", "worker", "1", models=models, models_size_max=9 * GB
        )

    def _require_admin(self) -> None:
        if not self.is_admin:
            raise NotAnAdmin("only admins decide for the whole swarm")


def test_what_is_placed_is_shown_as_it_is_planned_now() -> None:
    house = House()
    [row] = house.place(replicas=3)["placements"]
    assert (row["replicas"], row["held"]) == (3, ["id-attic", "id-cellar"])
    assert row["planned"] == ["id-attic", "id-cellar", "id-den"]
    assert house.ask("models.placements")["placements"] == [row]


def test_who_is_no_admin_is_told_who_decides() -> None:
    house = House()
    house.place(replicas=2)
    house.is_admin = False
    with pytest.raises(NodeError, match="only admins"):
        house.place(everywhere=True)
    with pytest.raises(NodeError, match="only admins"):
        house.ask("models.unplace", name="tiny", yes=False)
    [placement] = house.placement_records()
    assert placement.replicas == 2


def test_what_is_not_wanted_any_more_is_deleted_where_the_swarm_put_it() -> None:
    house = House()
    house.place(replicas=2)
    told = house.ask("models.unplace", name="tiny", yes=False)
    assert told == {"deleted": ["cellar"], "kept": ["attic"]}
    assert not house.placements
    with pytest.raises(WrongUse, match="nobody said that tiny is wanted"):
        house.ask("models.unplace", name="tiny", yes=True)


def test_the_last_copies_go_only_if_somebody_says_yes() -> None:
    house = House(owners=())
    house.place(replicas=2)
    with pytest.raises(WrongUse, match="--yes"):
        house.ask("models.unplace", name="tiny", yes=False)
    assert house.placements
    assert house.ask("models.unplace", name="tiny", yes=True)["deleted"] == ["attic", "cellar"]
    assert not house.placements
