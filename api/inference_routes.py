"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answer import InferenceResponse
from api.metrics import Metrics
from api.openapi import ANSWER_RESPONSES
from api.schema import ChatBody, CompletionBody
from api.shapes import ChatShape, CompletionShape
from federation.backend import Backend, RequestId


def inference_routes(backend: Backend, metrics: Metrics, version: str) -> APIRouter:
    """The endpoints that generate text with `backend`."""
    router = APIRouter(tags=["inference"])

    def respond(
        body: ChatBody | CompletionBody, request: Request, shape: type[ChatShape | CompletionShape]
    ) -> Response:
        # The id that `Boundary` gave to this request.
        inference = body.inference_request(RequestId(request.state.request_id))
        wording = shape(
            inference.request_id,
            inference.model,
            created=int(time.time()),
            version=version,
            include_usage=body.include_usage,
        )
        return InferenceResponse(backend, inference, wording, metrics)

    @router.post("/v1/chat/completions", responses=ANSWER_RESPONSES)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """The next turn of a conversation; with `stream`, token by token as server-sent events."""
        return respond(body, request, ChatShape)

    @router.post("/v1/completions", responses=ANSWER_RESPONSES)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """What follows a prompt, without a chat template; with `stream`, token by token."""
        return respond(body, request, CompletionShape)

    return router
