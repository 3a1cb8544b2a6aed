"""What the HTTP side wants to know of the node it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class NodeStatus(Protocol):
    """The node as this node sees itself and its swarm. Asked for each request, so it must be cheap."""

    def swarm(self) -> Mapping[str, Any]:
        """`{"swarm", "self", "nodes": [...], "waiting": [...]}`, the JSON of `/api/swarm`."""

    def refused_entries(self) -> Mapping[str, int]:
        """How many ledger entries that peers sent did not enter, by reason."""

    def peer_counts(self) -> Mapping[str, Mapping[str, int]]:
        """What was counted of each peer, by what it is (`metrics.py`) and peer id."""

    def engines(self) -> Mapping[str, Any]:
        """`{"budget_bytes", "used_bytes", "warning", "models": [...]}`, the JSON of `/backend/monitor`."""

    def explain_route(self, model: str, prompt_tokens: int, max_tokens: int | None) -> Mapping[str, Any]:
        """Where a request for `model` would go now and why, the JSON of `/api/route/explain`.

        Raises:
          ModelNotFound: nobody has it.
        """

    async def shut_down(self, model: str) -> bool:
        """Take a model of this node out of memory once nothing runs on it; returns whether it was there.

        Raises:
          ModelNotFound: this node has none of that name.
        """

    def readiness(self) -> str | None:
        """Why requests cannot be served now, for a person, or None if they can."""
