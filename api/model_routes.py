"""`/v1/models`: what can be asked for."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from api.openapi import MODEL_RESPONSES, MODELS_RESPONSES
from federation.backend import Backend, ModelInfo
from federation.errors import ModelNotFound


def model_routes(backend: Backend) -> APIRouter:
    """The endpoints that list the models of `backend`."""
    router = APIRouter(tags=["models"])
    since = int(time.time())
    """OpenAI wants a time of creation; ours is when this node began to offer anything."""

    @router.get("/v1/models", responses=MODELS_RESPONSES)
    async def list_models() -> dict[str, Any]:
        """Every model that can be asked for, once each; one that failed to load cannot."""
        usable = [model for model in backend.models() if model.state != "failed"]
        return {"object": "list", "data": [_model_object(model, since) for model in usable]}

    @router.get("/v1/models/{name:path}", responses=MODEL_RESPONSES)
    async def retrieve_model(name: str) -> dict[str, Any]:
        """One model; of one that failed to load, the reason."""
        for model in backend.models():
            if model.name == name:
                return _model_object(model, since)
        raise ModelNotFound(f"no node that is online has a model named {name!r}")

    return router


def _model_object(model: ModelInfo, since: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": since,
        "owned_by": "localai-node",
        "state": model.state,
        "capabilities": list(model.capabilities),
        "context_size": model.context_size,
        "reason": model.reason,
    }
