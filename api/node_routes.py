"""Endpoints about the node itself: health, version, counters, and its view of the swarm."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.errors import HttpError
from api.metrics import Metrics
from api.node_status import NodeStatus
from api.openapi import ERROR_RESPONSES

_TOKENS_MAX = 2**24
"""More than any context has."""


def node_routes(status: NodeStatus, metrics: Metrics, version: str) -> APIRouter:
    """The endpoints that operate a node."""
    router = APIRouter(tags=["node"], responses=ERROR_RESPONSES)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Requests can be served; else 503 that says why not."""
        reason = status.readiness()
        if reason is not None:
            # What is missing at a start is there within seconds, or needs a person.
            raise HttpError(503, reason, type="server_error", code="not_ready", retry_after=5)
        return {"status": "ready"}

    @router.get("/version")
    async def show_version() -> dict[str, str]:
        """What this node runs."""
        return {"name": "localai-node", "version": version}

    @router.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/api/swarm")
    async def swarm() -> dict[str, Any]:
        """This node's view of the swarm: itself and every peer."""
        return dict(status.swarm())

    @router.get("/api/route/explain")
    async def explain_route(
        model: str,
        prompt_tokens: Annotated[int, Query(ge=0, le=_TOKENS_MAX)] = 100,
        max_tokens: Annotated[int | None, Query(ge=1, le=_TOKENS_MAX)] = None,
    ) -> dict[str, Any]:
        """Where a request for `model` would go now: what each node would take for it, and who cannot."""
        return dict(status.explain_route(model, prompt_tokens, max_tokens))

    return router
