"""What a running node does when a command asks it about placements (`control_commands.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ledger.errors import NotAnAdmin, OverQuota
from ledger.records import ModelName, PlacementRecord, placement_key
from node.control_server import Handler
from node.errors import NodeError, WrongUse
from node.parts import Parts
from node.placement.wishes import placement_of, placement_rows, withdrawal
from p2p.peer import PeerId


class PlacementCommands:
    """The commands by which people say what the swarm is to hold where."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handlers(self) -> dict[str, Handler]:
        """By the name a command asks with."""
        return {
            "models.place": self._place,
            "models.unplace": self._unplace,
            "models.placements": self._list,
        }

    async def _place(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 (msgpack-able)
        placement = placement_of(
            ModelName(str(arguments["name"])),
            self._parts.view.nodes(),
            replicas=int(arguments["replicas"]),
            on=[str(text) for text in arguments["on"]],
            is_everywhere=bool(arguments["everywhere"]),
        )
        with _told():
            self._parts.ledger.put_shared(placement)
        return self._shown([placement])

    async def _unplace(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        name = ModelName(str(arguments["name"]))
        ledger = self._parts.ledger
        if all(placement.model != name for placement in ledger.placement_records()):
            raise WrongUse(
                f"nobody said that {name} is wanted; `localai-node models placements` lists what is"
            )
        copies = withdrawal(name, self._parts.view.nodes())
        if copies.deleted and not copies.kept and not arguments["yes"]:
            raise WrongUse(
                f"every copy of {name} was put there by the swarm, so it would be gone: say --yes if it may"
                f" be, or first `localai-node models pull {name}` on a node that is to keep it"
            )
        with _told():
            ledger.delete_shared(placement_key(name))
        return {"deleted": self._names(copies.deleted), "kept": self._names(copies.kept)}

    async def _list(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._shown(self._parts.ledger.placement_records())

    def _shown(self, placements: Iterable[PlacementRecord]) -> dict[str, Any]:
        swarm = self._parts.swarm()
        rows = placement_rows(placements, self._parts.plan_now(), self._parts.view.nodes())
        return {**swarm, "placements": rows}

    def _names(self, peers: Iterable[PeerId]) -> list[str]:
        names = {node.peer: node.name for node in self._parts.view.nodes()}
        return [names[peer] for peer in peers]


@contextmanager
def _told() -> Iterator[None]:
    """What the ledger refuses to take from us is told to whoever asked."""
    try:
        yield
    except NotAnAdmin as error:
        raise NodeError(f"{error}: ask on a machine of theirs") from error
    except OverQuota as error:
        raise NodeError(str(error)) from error
