"""`/backend/monitor` and `/backend/shutdown`, as LocalAI has them: the engines of this very node."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.body_types import ModelBody
from api.node_status import NodeStatus
from api.openapi import ERROR_RESPONSES, Responses
from federation.errors import ModelNotFound


class EngineState(BaseModel):
    """One model of this node, and its engine."""

    model: str
    state: str
    """`loaded`, `cold`, `loading` or `failed`."""
    reason: str
    """Why it does not run; empty if nothing is wrong."""
    pid: int | None
    memory_bytes: int
    """Resident, of its engine's process; 0 while there is none."""
    estimated_bytes: int
    """What it was expected to take, from its file; 0 until somebody asked for it."""
    loaded_fraction: float
    """Of its weights, 0 to 1."""
    slots_total: int
    slots_busy: int
    waiting: int
    """Requests that wait for memory, or for it to be loaded."""
    idle_s: float | None
    """Seconds since somebody used it; null while somebody does, or where it is not loaded."""
    keep_alive_s: float | None
    """Seconds for which it stays idle in memory; null: until its memory is needed."""
    pinned: bool
    restarts: int
    """Of its engine, since it was loaded."""


class EngineStates(BaseModel):
    """All models of this node, and the memory they share."""

    budget_bytes: int
    used_bytes: int
    """As measured where a model was loaded, else as estimated."""
    warning: str
    """That they take more than they may, and why; empty if they do not."""
    models: list[EngineState]


class Shutdown(BaseModel):
    """What became of a model that was to be unloaded."""

    model: str
    was_loaded: bool
    message: str


class ShutdownBody(ModelBody):
    """Body of `/backend/shutdown`."""


_MONITOR_RESPONSES: Responses = {200: {"model": EngineStates | EngineState}, **ERROR_RESPONSES}
_SHUTDOWN_RESPONSES: Responses = {200: {"model": Shutdown}, **ERROR_RESPONSES}


def backend_routes(status: NodeStatus) -> APIRouter:
    """The endpoints that look at engines, and end them."""
    router = APIRouter(tags=["node"])

    @router.get("/backend/monitor", responses=_MONITOR_RESPONSES)
    async def monitor(model: str | None = None) -> dict[str, Any]:
        """The engine of one model, or of all models of this node, and what memory they take."""
        engines = status.engines()
        if model is None:
            return dict(engines)
        for row in engines["models"]:
            if row["model"] == model:
                return dict(row)
        raise ModelNotFound(f"this node has no model {model!r}")

    @router.post("/backend/shutdown", responses=_SHUTDOWN_RESPONSES)
    async def shutdown(body: ShutdownBody) -> dict[str, Any]:
        """Take a model out of memory, once what runs on it has ended. The next request loads it again."""
        was_loaded = await status.shut_down(body.model)
        message = "model stopped" if was_loaded else "the model was not loaded"
        return {"model": body.model, "was_loaded": was_loaded, "message": message}

    return router
