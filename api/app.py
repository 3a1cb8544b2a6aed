"""The app: every endpoint over one backend, with nothing global."""

from __future__ import annotations

from typing import NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse

from api.backend_routes import backend_routes
from api.boundary import Boundary
from api.docs_page import docs_page
from api.errors import HttpError
from api.gate import Gate
from api.inference_routes import inference_routes
from api.metrics import Metrics
from api.model_manager import ModelManager
from api.model_routes import model_routes
from api.model_store_routes import job_routes, model_store_routes
from api.node_routes import node_routes
from api.node_status import NodeStatus
from api.question_routes import question_routes
from api.settings import ApiSettings
from federation.backend import Backend


def create_app(backend: Backend, settings: ApiSettings, status: NodeStatus, manager: ModelManager) -> FastAPI:
    """OpenAI's endpoints over `backend`, and those about the node.

    Start no tasks, open nothing: the app lives as long as somebody serves it.
    """
    metrics = Metrics(status)
    app = FastAPI(
        title="localai-node",
        version=settings.version,
        docs_url=None,
        redoc_url=None,
        # A redirect would make a POST to `/v1/models/` look as if it had worked.
        redirect_slashes=False,
        middleware=[Middleware(Boundary, metrics), Middleware(Gate, settings)],
        exception_handlers={
            404: _no_such_route,
            405: _no_such_route,
            HTTPException: _leave_to_boundary,
            RequestValidationError: _leave_to_boundary,
        },
    )
    app.include_router(inference_routes(backend, settings.version))
    app.include_router(question_routes(backend))
    app.include_router(model_routes(backend))
    app.include_router(model_store_routes(manager))
    app.include_router(job_routes(manager))
    app.include_router(backend_routes(status))
    app.include_router(node_routes(status, metrics, settings.version))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    return app


async def _no_such_route(request: Request, error: HTTPException) -> NoReturn:
    path = f"{request.method} {request.url.path}"
    raise HttpError(
        error.status_code, f"there is no {path} here; /docs lists what there is", code="unknown_url"
    )


async def _leave_to_boundary(request: Request, error: Exception) -> NoReturn:
    raise error
