"""What a node says that runs no models of its own, where it is asked to get, show or delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from api.errors import HttpError
from api.model_manager import AvailableModels, ModelOrder
from ledger.view import NodeView
from node.install.manager import OpenGalleries, offered_models

_NAMED_MAX = 3
"""Nodes that a person is told to ask. One will do."""


def why_no_models(nodes: Iterable[NodeView]) -> str:
    """What to do instead, for a person. `nodes`: the swarm as this node sees it."""
    running = sorted(node.name for node in nodes if node.role == "worker" and node.state == "online")
    others = (
        f"one that does: {', '.join(running[:_NAMED_MAX])}" if running else "one that does; none is here now"
    )
    return f"this node runs no models of its own; ask {others}"


class NoModels:
    """The `ModelManager` of such a node."""

    def __init__(self, nodes: Callable[[], Iterable[NodeView]], open_galleries: OpenGalleries) -> None:
        self._nodes = nodes
        self._open_galleries = open_galleries

    def jobs_revision(self) -> int:
        return 0

    async def jobs_changed(self, revision: int) -> None:
        del revision
        await trio.sleep_forever()

    def order_model(self, order: ModelOrder) -> Mapping[str, Any]:
        del order
        raise HttpError(409, why_no_models(self._nodes()), code="no_worker")

    def jobs(self) -> Sequence[Mapping[str, Any]]:
        return []

    def job(self, job_id: str) -> Mapping[str, Any] | None:
        del job_id
        return None

    def cancel_job(self, job_id: str) -> bool:
        del job_id
        return False

    async def delete_model(self, name: str) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        raise HttpError(
            404, f"there is no {name} here: {why_no_models(self._nodes())}", code="model_not_found"
        )

    async def available_models(self) -> AvailableModels:
        return await offered_models(self._open_galleries, installed=())
