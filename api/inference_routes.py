"""`/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answer import InferenceResponse, StreamResponse
from api.blame import blaming
from api.chat_body import ChatBody
from api.chat_shape import ChatShape
from api.completion_body import CompletionBody
from api.completion_shape import CompletionShape
from api.openapi import CHAT_RESPONSES, COMPLETION_RESPONSES
from api.routing_headers import ROUTED, with_routing
from api.several import infer_several
from federation.backend import Backend, InferenceRequest, RequestId


def inference_routes(backend: Backend, version: str) -> APIRouter:
    """The endpoints that generate text with `backend`."""
    router = APIRouter(tags=["inference"])

    def respond(
        body: ChatBody | CompletionBody,
        requests: Sequence[InferenceRequest],
        request_id: RequestId,
        shape: type[ChatShape | CompletionShape],
    ) -> Response:
        first = requests[0]
        wording = shape(
            request_id,
            first.model,
            created=int(time.time()),
            version=version,
            choices=len(requests) * first.choices,
            include_usage=body.include_usage,
        )
        open_answer = (
            partial(backend.infer, first) if len(requests) == 1 else partial(infer_several, backend, requests)
        )
        response = StreamResponse if first.is_streamed else InferenceResponse
        return response(partial(blaming, open_answer, body.own_names()), requests, wording)

    @router.post("/v1/chat/completions", responses=CHAT_RESPONSES, openapi_extra=ROUTED)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """The next turn of a conversation; with `stream`, token by token as server-sent events."""
        # The id that `Boundary` gave to this request.
        request_id = RequestId(request.state.request_id)
        asked = with_routing(body.inference_request(request_id), request.headers)
        return respond(body, [asked], request_id, ChatShape)

    @router.post("/v1/completions", responses=COMPLETION_RESPONSES, openapi_extra=ROUTED)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """What follows a prompt, without a chat template; with `stream`, token by token."""
        request_id = RequestId(request.state.request_id)
        asked = [with_routing(each, request.headers) for each in body.inference_requests(request_id)]
        return respond(body, asked, request_id, CompletionShape)

    return router
