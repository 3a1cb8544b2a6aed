"""What our OpenAPI says beyond the bodies of requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.answer_models import ChatCompletion, ModelList, ModelObject, TextCompletion


class ErrorObject(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Body of every answer that is not 2xx, and the last event of a stream that could not end well."""

    error: ErrorObject


Responses = dict[int | str, dict[str, Any]]

ERROR_RESPONSES: Responses = {
    "4XX": {"model": ErrorBody, "description": "The request is at fault; `param` names what."},
    "5XX": {"model": ErrorBody, "description": "The swarm is at fault; with `Retry-After`, try again."},
}


def _text_responses(model: type[BaseModel]) -> Responses:
    """Of an endpoint that answers with `model`, or streams it."""
    described = "OpenAI's object, or with `stream` its pieces and `[DONE]`."
    return {
        200: {"model": model, "description": described, "content": {"text/event-stream": {}}},
        **ERROR_RESPONSES,
    }


CHAT_RESPONSES = _text_responses(ChatCompletion)
COMPLETION_RESPONSES = _text_responses(TextCompletion)
MODEL_RESPONSES: Responses = {200: {"model": ModelObject}, **ERROR_RESPONSES}
MODELS_RESPONSES: Responses = {200: {"model": ModelList}, **ERROR_RESPONSES}


class EmbeddingObject(BaseModel):
    """The vector of one input; with `encoding_format: base64`, its 32-bit floats, little-endian."""

    object: str
    index: int
    embedding: list[float] | str


class TokenCounts(BaseModel):
    """Of a question without generated text."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """OpenAI's list of vectors, in the order of the inputs."""

    object: str
    model: str
    data: list[EmbeddingObject]
    usage: TokenCounts


class RankedText(BaseModel):
    """A document as it came."""

    text: str


class RankedDocument(BaseModel):
    """One document, by its place in the request."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class RankedList(BaseModel):
    """Jina's list of documents, the best first."""

    object: str
    model: str
    results: list[RankedDocument]
    usage: TokenCounts


class TokenList(BaseModel):
    """Token ids of one model."""

    tokens: list[int]


class TokenText(BaseModel):
    """What token ids stand for."""

    content: str


EMBEDDINGS_RESPONSES: Responses = {200: {"model": EmbeddingList}, **ERROR_RESPONSES}
RERANK_RESPONSES: Responses = {200: {"model": RankedList}, **ERROR_RESPONSES}
TOKENS_RESPONSES: Responses = {200: {"model": TokenList}, **ERROR_RESPONSES}
TEXT_RESPONSES: Responses = {200: {"model": TokenText}, **ERROR_RESPONSES}
