"""Questions with one answer, never streamed: embeddings, ranks, and token ids."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answer import InferenceResponse
from api.embeddings import EmbeddingsBody, EmbeddingsShape
from api.openapi import EMBEDDINGS_RESPONSES, RERANK_RESPONSES, TEXT_RESPONSES, TOKENS_RESPONSES
from api.rerank import RerankBody, RerankShape
from api.routing_headers import ROUTED, with_routing
from api.shapes import AnswerShape
from api.tokens import DetokenizeBody, DetokenizeShape, TokenizeBody, TokenizeShape
from federation.backend import Backend, InferenceRequest, RequestId


def question_routes(backend: Backend) -> APIRouter:
    """The endpoints that ask `backend` for something else than text that goes on."""
    router = APIRouter(tags=["inference"])

    def respond(request: Request, question: InferenceRequest, shape: AnswerShape) -> Response:
        asked = with_routing(question, request.headers)
        return InferenceResponse(partial(backend.infer, asked), [asked], shape)

    @router.post("/v1/embeddings", responses=EMBEDDINGS_RESPONSES, openapi_extra=ROUTED)
    async def embeddings(body: EmbeddingsBody, request: Request) -> Response:
        """A vector for each text, of a model that gives them."""
        asked = body.inference_request(_id_of(request))
        return respond(request, asked, EmbeddingsShape(body, len(asked.inputs)))

    @router.post("/v1/rerank", responses=RERANK_RESPONSES, openapi_extra=ROUTED)
    async def rerank(body: RerankBody, request: Request) -> Response:
        """The documents that answer a query best, of a model that ranks them."""
        return respond(request, body.inference_request(_id_of(request)), RerankShape(body))

    @router.post("/v1/tokenize", responses=TOKENS_RESPONSES, openapi_extra=ROUTED)
    async def tokenize(body: TokenizeBody, request: Request) -> Response:
        """The token ids that a model reads a text as."""
        return respond(request, body.inference_request(_id_of(request)), TokenizeShape())

    @router.post("/v1/detokenize", responses=TEXT_RESPONSES, openapi_extra=ROUTED)
    async def detokenize(body: DetokenizeBody, request: Request) -> Response:
        """The text that token ids stand for; what is no text by itself comes as U+FFFD."""
        return respond(request, body.inference_request(_id_of(request)), DetokenizeShape())

    return router


def _id_of(request: Request) -> RequestId:
    """The id that `Boundary` gave to this request."""
    return RequestId(request.state.request_id)
