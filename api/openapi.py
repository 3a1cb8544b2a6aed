"""What our OpenAPI says beyond the bodies of requests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


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

ANSWER_RESPONSES: Responses = {
    200: {
        "description": "OpenAI's object, or with `stream` its pieces and `[DONE]`.",
        "content": {"application/json": {}, "text/event-stream": {}},
    },
    **ERROR_RESPONSES,
}
