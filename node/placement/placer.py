"""Makes the plan anew when something changed, and does this node's part of it.

One model is fetched at a time, and one given up at a time: the network and the disk are one each. What failed
is tried again, ever later. A copy is surplus for a while before others are asked for a promise: views settle.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import trio

from ledger.placement import Host, Plan, plan
from ledger.records import ModelName, PlacementRecord
from ledger.view import NodeView
from node.errors import NodeError
from node.placement.absences import Absences
from node.placement.hosts import hosts, is_whole, missed
from node.placement.keep import KeepServer, asked_to_keep
from node.placement.part import Part, Surplus, own_part
from node.placement.retention import GIVING_UP_MAX, Retention
from node.placement.retries import Retries
from node.placement.wishes import as_held_now, comes_back
from p2p.network import Streams
from p2p.peer import PeerId
from p2p.revision import Revision

logger = logging.getLogger(__name__)

_SETTLING_TIME = 1.0
"""Seconds after a change until the plan is made: changes come in bursts."""
SURPLUS_PATIENCE = 60.0
"""Seconds for which a copy must be surplus, until others are asked: a minute after the last change all
have the same entries, and to wait costs nothing but room on a disk."""

Item = TypeVar("Item")


class View(Protocol):
    """The swarm as this node sees it: a `SwarmView`."""

    revision: Revision

    def nodes(self) -> Sequence[NodeView]: ...


class Placements(Protocol):
    """What is wanted: a `Ledger`."""

    @property
    def me(self) -> PeerId: ...

    def placement_records(self) -> Sequence[PlacementRecord]: ...

    def is_withdrawn(self, model: ModelName) -> bool: ...


class Holdings(Protocol):
    """The models of this node, and how they come and go."""

    def placed(self) -> Mapping[ModelName, str]:
        """sha256 of each model that the swarm put here."""

    async def fetch(self, placement: PlacementRecord) -> None:
        """Get and serve what is wanted, as something that the swarm put here. Cancelled: what came is kept
        for another time.

        Raises:
          NodeError: it cannot be had now; says why.
        """

    async def give_up(self, model: ModelName) -> None:
        """Stop serving `model` once nothing runs on it, and delete what the swarm put here of it.

        Raises:
          NodeError: it could not be deleted.
        """


class Placer:
    """Carries out this node's part."""

    def __init__(
        self, streams: Streams, view: View, placements: Placements, holdings: Holdings, absences: Absences
    ) -> None:
        self._streams = streams
        self._view = view
        self._placements = placements
        self._holdings = holdings
        self._absences = absences
        self._retention = Retention()
        self._plan = Plan({}, {})
        self._part = Part()
        self._looked = trio.Event()
        self._surplus_since: dict[ModelName, float] = {}
        self._fetching: tuple[PlacementRecord, trio.CancelScope] | None = None
        self._retries = Retries()

    @property
    def plan(self) -> Plan:
        """As it was made last."""
        return self._plan

    def plan_now(self) -> Plan:
        """As it would be made now."""
        return plan(self._placements.placement_records(), self._hosts())

    def would_come_back(self, model: ModelName) -> bool:
        """Whether the swarm would put `model` here again, once it was deleted."""
        return comes_back(model, self._placements.me, self._placements.placement_records(), self._hosts())

    async def run(self) -> None:
        """Plan, fetch and give up until cancelled. Answers who wants a promise."""
        KeepServer(self._promise).attach(self._streams)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fetch_what_is_missing)
            nursery.start_soon(self._give_up_what_is_surplus)
            while True:
                number = self._view.revision.number
                self._look()
                with trio.move_on_at(self._absences.wake_at(trio.current_time())):
                    await self._view.revision.after(number)
                await trio.sleep(_SETTLING_TIME)

    def _look(self) -> None:
        """Make the plan, and see what is ours of it."""
        now, nodes, me = trio.current_time(), self._view.nodes(), self._placements.me
        self._absences.note(missed(nodes), now)
        placements = self._placements.placement_records()
        self._plan = self.plan_now()
        placed = self._holdings.placed()
        withdrawn = [model for model in placed if self._placements.is_withdrawn(model)]
        part = own_part(me, self._plan, placements, held=self._held(), placed=placed, withdrawn=withdrawn)
        self._surplus_since = {each.model: self._surplus_since.get(each.model, now) for each in part.surplus}
        if self._fetching is not None:
            placement, scope = self._fetching
            if placement not in placements or me not in self._plan.holders[placement.model]:
                scope.cancel()
        self._part = part
        self._looked.set()
        self._looked = trio.Event()

    def _hosts(self) -> Sequence[Host]:
        return hosts(self._view.nodes(), self._absences.gone(trio.current_time()))

    def _held(self) -> Mapping[ModelName, str]:
        nodes, me = self._view.nodes(), self._placements.me
        mine = (record for node in nodes if node.peer == me for record in node.models)
        return {record.name: record.sha256 for record in mine if is_whole(record)}

    def _promise(self, sha256: str) -> bool:
        return sha256 in self._held().values() and self._retention.promise(sha256, trio.current_time())

    async def _fetch_what_is_missing(self) -> None:
        while True:
            missing = {each.model: each for each in self._part.fetch}
            due = {model: self._retries.due_at(model) for model in missing}
            if (model := await self._first_due(due)) is None:
                continue
            placement = missing[model]
            with trio.CancelScope() as scope, self._retries.noting(model, "fetch"):
                self._fetching = placement, scope
                await self._holdings.fetch(as_held_now(placement, self._view.nodes()))
                self._part = replace(self._part, fetch=_without(self._part.fetch, placement))
            self._fetching = None

    async def _give_up_what_is_surplus(self) -> None:
        while True:
            surplus = {each.model: each for each in self._part.surplus}
            due = {model: self._retries.due_at(model) for model in (*self._part.withdrawn, *surplus)}
            for model in surplus:
                due[model] = max(due[model], self._surplus_since[model] + SURPLUS_PATIENCE)
            if (due_model := await self._first_due(due)) is None:
                continue
            with self._retries.noting(due_model, "give up"):
                if due_model in surplus:
                    await self._give_up_if_promised(surplus[due_model])
                else:
                    await self._holdings.give_up(due_model)
                self._part = replace(
                    self._part,
                    surplus=_without(self._part.surplus, surplus.get(due_model)),
                    withdrawn=_without(self._part.withdrawn, due_model),
                )

    async def _give_up_if_promised(self, surplus: Surplus) -> None:
        """Drop a copy, once enough others promised to keep theirs.

        Raises:
          NodeError: too few did, or it cannot be deleted.
        """
        if not self._retention.begin(surplus.sha256, trio.current_time()):
            raise NodeError(f"others rely on the copy of {surplus.model} that is here")
        try:
            with trio.fail_after(GIVING_UP_MAX):
                promised = await self._count_promises(surplus)
                if promised < surplus.wanted:
                    raise NodeError(
                        f"the copy of {surplus.model} that is here stays:"
                        f" {promised} of {surplus.wanted} others keep theirs"
                    )
                await self._holdings.give_up(surplus.model)
        except trio.TooSlowError as error:
            raise NodeError(f"what still runs on {surplus.model} keeps its copy here") from error
        finally:
            self._retention.end(surplus.sha256)

    async def _count_promises(self, surplus: Surplus) -> int:
        promises: list[bool] = []

        async def ask(peer: PeerId) -> None:
            promises.append(await asked_to_keep(self._streams, peer, surplus.sha256))

        async with trio.open_nursery() as nursery:
            for peer in surplus.others:
                nursery.start_soon(ask, peer)
        return sum(promises)

    async def _first_due(self, due: Mapping[ModelName, float]) -> ModelName | None:
        """What is due now; None: something was, or is to be done now, that was not before."""
        looked, now = self._looked, trio.current_time()
        first = next((model for model, at in due.items() if at <= now), None)
        if first is None:
            with trio.move_on_at(min(due.values(), default=math.inf)):
                await looked.wait()
        return first


def _without(items: tuple[Item, ...], item: object) -> tuple[Item, ...]:
    """What is left once one is done with. The next look sees the same in the ledger."""
    return tuple(each for each in items if each != item)
