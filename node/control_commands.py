"""What a running node does when a command asks it (`control.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from ledger.records import ModelName
from node.control_server import Handler
from node.errors import NodeError
from node.models.errors import UnknownModel
from node.parts import Parts
from node.place import shareable
from node.worker import Worker
from p2p.network import Network


class ControlCommands:
    """The commands of one running node."""

    def __init__(
        self, parts: Parts, network: Network, api: str, leave: Callable[[float], Awaitable[None]]
    ) -> None:
        self._parts = parts
        self._network = network
        self._api = api
        self._leave_swarm = leave
        self._models_turn = trio.Lock()
        """One command at a time changes models: what one takes away, another must not be adding."""

    def handlers(self) -> dict[str, Handler]:
        """By the name a command asks with."""
        return {
            "info": self._info,
            "status": self._status,
            "models.add": self._add_model,
            "models.rm": self._remove_model,
            "drain": self._drain,
            "leave": self._leave,
        }

    async def _info(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401 (msgpack-able)
        addresses = shareable(self._network.listen_addresses)
        return {"api": self._api, "addresses": [str(address) for address in addresses]}

    async def _status(self, _: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._parts.swarm()

    async def _add_model(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        worker = self._worker()
        add = partial(self._parts.catalog.add, str(arguments["source"]), copy=bool(arguments["copy"]))
        async with self._models_turn:
            definition = await trio.to_thread.run_sync(add)
            worker.add_model(definition)
        return definition.name

    async def _remove_model(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        name, worker = ModelName(str(arguments["name"])), self._worker()
        async with self._models_turn:
            # Its file could not be deleted the last time, and it is asked for again.
            with suppress(UnknownModel):
                await worker.remove_model(name)
            # Not to be interrupted: a model that is not served any more must not be there after a restart.
            with trio.CancelScope(shield=True):
                deleted = await trio.to_thread.run_sync(self._parts.catalog.remove, name)
        return [str(path) for path in deleted]

    async def _drain(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        with trio.move_on_after(float(arguments["grace"])):
            await self._parts.drain()
        return self._parts.running()

    async def _leave(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        await self._leave_swarm(float(arguments["grace"]))

    def _worker(self) -> Worker:
        if self._parts.worker is None:
            raise NodeError("this node runs no models: it was started as a front")
        return self._parts.worker
