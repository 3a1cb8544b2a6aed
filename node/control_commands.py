"""What a running node does when a command asks it (`control.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import trio

from ledger.records import ModelName
from node.control_placement import PlacementCommands
from node.control_server import Handler
from node.errors import NodeError
from node.install.no_models import why_no_models
from node.install.order import Order
from node.model_parts import ModelParts
from node.parts import Parts
from node.place import shareable
from p2p.network import Network

if TYPE_CHECKING:
    from node.suggest.stated import Purpose


class ControlCommands:
    """The commands of one running node."""

    def __init__(
        self, parts: Parts, network: Network, api: str, leave: Callable[[float], Awaitable[None]]
    ) -> None:
        self._parts = parts
        self._network = network
        self._api = api
        self._leave_swarm = leave

    def handlers(self) -> dict[str, Handler]:
        """By the name a command asks with."""
        return {
            "info": self._info,
            "status": self._status,
            "models.add": self._add_model,
            "models.rm": self._remove_model,
            "models.pull": self._pull_model,
            "models.suggest": self._suggest_models,
            "models.available": self._available_models,
            "jobs": self._list_jobs,
            "job": self._show_job,
            "job.cancel": self._cancel_job,
            "drain": self._drain,
            "leave": self._leave,
            **PlacementCommands(self._parts).handlers(),
        }

    async def _info(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401 (msgpack-able)
        addresses = shareable(self._network.listen_addresses)
        return {"api": self._api, "addresses": [str(address) for address in addresses]}

    async def _status(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._parts.swarm()

    async def _add_model(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return await self._models().shelf.add(str(arguments["source"]), copy=bool(arguments["copy"]))

    async def _remove_model(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        name = ModelName(str(arguments["name"]))
        models = self._models()
        comes_back = models.placer.would_come_back(name)
        deleted = await models.shelf.remove(name)
        return {"deleted": [str(path) for path in deleted], "comes_back": comes_back}

    async def _pull_model(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        order = Order(str(arguments["reference"]), name=str(arguments["name"]))
        return self._models().manager.order(order).as_map()

    async def _suggest_models(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        purpose, galleries = cast("Purpose", str(arguments["purpose"])), _texts(arguments["galleries"])
        return await self._parts.adviser.suggest(
            purpose, is_all=bool(arguments["is_all"]), galleries=galleries
        )

    async def _available_models(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        galleries = _texts(arguments["galleries"])
        return await self._parts.adviser.available(str(arguments["text"]), galleries=galleries)

    async def _list_jobs(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return {"jobs": list(self._parts.manager.jobs()), "uploads": list(self._parts.uploads())}

    async def _show_job(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._parts.manager.job(str(arguments["job"]))

    async def _cancel_job(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._models().manager.cancel(str(arguments["job"]))

    async def _drain(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        with trio.move_on_after(float(arguments["grace"])):
            await self._parts.drain()
        return self._parts.running()

    async def _leave(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        await self._leave_swarm(float(arguments["grace"]))

    def _models(self) -> ModelParts:
        if self._parts.models is None:
            raise NodeError(why_no_models(self._parts.view.nodes()))
        return self._parts.models


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
