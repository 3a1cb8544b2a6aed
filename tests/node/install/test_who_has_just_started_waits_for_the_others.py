"""A node that has just started asks those who had a model, before it asks anybody outside of the swarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import trio

from ledger.records import ModelName, ModelRecord
from ledger.view import NodeState, NodeView
from node.install.search import of_name
from node.install.swarm_watch import SwarmWatch
from p2p.peer import PeerId
from p2p.revision import Revision
from tests.mock_time import run

ME = PeerId("me")
TINY = ModelRecord(ModelName("tiny"), "cold", sha256="ab" * 32, manifest="cd" * 32)


@dataclass
class Others:
    """A view of them."""

    rows: dict[str, NodeView] = field(default_factory=dict)
    revision: Revision = field(default_factory=Revision)

    def nodes(self) -> Sequence[NodeView]:
        return list(self.rows.values())

    def add(self, name: str, *models: ModelRecord, state: NodeState = "offline") -> None:
        self.rows[name] = NodeView(PeerId(name), name, state, "worker", "1", models=models)

    async def come(self, name: str, after: float) -> None:
        await trio.sleep(after)
        self.rows[name] = replace(self.rows[name], state="online")
        self.revision.rise()


def has_met(others: Others, *, age: float = 0.0, comes: str = "", after: float = 0.0) -> tuple[bool, float]:
    """What a node of that age finds, and how long that takes it."""
    found: tuple[bool, float] = (False, 0.0)

    async def main() -> None:
        nonlocal found
        watch = SwarmWatch(others, ME)
        await trio.sleep(age)
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            if comes:
                nursery.start_soon(others.come, comes, after)
            met = await watch.has_met(of_name("tiny"))
            found = met, trio.current_time() - began_at
            nursery.cancel_scope.cancel()

    run(main)
    return found


def test_it_waits_for_who_had_the_model_and_for_nobody_else() -> None:
    others = Others()
    others.add("attic", TINY)
    others.add("cellar")
    assert has_met(others, comes="attic", after=3.0) == (True, 3.0)


def test_it_does_not_wait_for_ever() -> None:
    others = Others()
    others.add("attic", TINY)
    assert has_met(others) == (False, 10.0)
    assert has_met(others, age=4.0) == (False, 6.0)


def test_later_it_knows_who_is_there() -> None:
    others = Others()
    others.add("attic", TINY)
    assert has_met(others, age=11.0) == (False, 0.0)


def test_it_waits_for_nobody_where_nobody_had_the_model_or_somebody_here_has_it() -> None:
    others = Others()
    others.add("cellar")
    assert has_met(others) == (False, 0.0)
    others.add("attic", TINY)
    others.add("den", TINY, state="online")
    assert has_met(others) == (False, 0.0)
