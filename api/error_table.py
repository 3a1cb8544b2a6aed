"""The one table from our errors to HTTP: status, OpenAI type and code, when to try again.

A client sees the message of the error as it is, so errors of `federation/` are
worded for people. What is in no table is our own fault: a 500 that tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.errors import HttpError
from api.validation import describe_unreadable, describe_validation
from federation.errors import (
    BadRequest,
    Busy,
    ContextTooLong,
    DeadlineExceeded,
    Failed,
    FederationError,
    ModelNotFound,
    ModelUnavailable,
    Refused,
    TimedOut,
)


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error is answered."""

    status: int
    type: str
    code: str | None = None
    retry_after: int | None = None
    """Seconds, where the error itself knows none."""


ROWS: Mapping[type[FederationError], Row] = {
    BadRequest: Row(400, "invalid_request_error"),
    ContextTooLong: Row(400, "invalid_request_error", "context_length_exceeded"),
    ModelNotFound: Row(404, "invalid_request_error", "model_not_found"),
    # A slot frees when somebody's answer ends, which is a matter of seconds.
    Busy: Row(429, "rate_limit_error", "busy", retry_after=2),
    TimedOut: Row(503, "server_error", "no_slot_in_time", retry_after=2),
    # A model loads in about this time; one that failed to load does so again no sooner.
    ModelUnavailable: Row(503, "server_error", "model_unavailable", retry_after=10),
    DeadlineExceeded: Row(504, "server_error", "deadline_exceeded"),
    Failed: Row(502, "server_error", "worker_failed"),
    # Only from a single worker; a front asks another one, and says what is left as one of the others.
    Refused: Row(503, "server_error", "refused", retry_after=2),
}
"""A subclass without a row is answered like its parent."""

_RETRY_AFTER_MAX = 3600
"""Seconds: what is known of a queue says nothing about later."""

_CODES: Mapping[int, str] = {408: "request_timeout", 413: "body_too_large"}


def http_error_of(error: Exception) -> HttpError | None:
    """`error` as HTTP says it, or None if it is a bug of ours."""
    match error:
        case HttpError():
            return error
        case RequestValidationError():
            param, message = describe_validation(error)
            return HttpError(400, message, param=param)
        case HTTPException(__cause__=Exception() as cause):
            return HttpError(error.status_code, describe_unreadable(cause))
        case HTTPException():
            return HttpError(error.status_code, str(error.detail), code=_CODES.get(error.status_code))
        case FederationError():
            return _of_federation(error)
    return None


def _of_federation(error: FederationError) -> HttpError:
    row = next(ROWS[each] for each in type(error).__mro__ if each in ROWS)
    return HttpError(
        row.status,
        str(error),
        type=row.type,
        param="model" if isinstance(error, ModelNotFound) else getattr(error, "param", None),
        code=row.code,
        retry_after=_retry_after(error, row),
    )


def _retry_after(error: FederationError, row: Row) -> int | None:
    """Whole seconds, which is all that the header can say; rounded up, so that it is not too early."""
    known = error.retry_after if isinstance(error, Busy | TimedOut) else None
    return row.retry_after if known is None else min(max(1, math.ceil(known)), _RETRY_AFTER_MAX)
