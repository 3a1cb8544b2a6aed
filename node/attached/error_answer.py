"""What a server says instead of an answer, as an error of the federation.

    400, 413, 422      BadRequest, or ContextTooLong where it is about that
    401, 403           Refused: it wants a key
    404                Refused: no such model; BadRequest where it has no such question
    405, 501           BadRequest: it cannot do that
    429                Refused: busy
    503                Refused: it is loading its model, or busy
    3xx                Refused: it is somewhere else
    everything else    Failed

Its words are shown to clients, shortened, because only they say what is wrong.
"""

from __future__ import annotations

import re

from federation.backend import InferenceRequest
from federation.errors import (
    BadRequest,
    ContextTooLong,
    Failed,
    FederationError,
    RefusalReason,
    Refused,
)
from ledger.records import Load
from node.attached.errors import BadAnswer
from node.attached.json_fields import parse_json, portable

MESSAGE_LENGTH_MAX = 500
"""Characters of a server's words that are passed on: a few sentences. Some send a stack trace."""

_PARAM_LENGTH_MAX = 100

KEY_ADVICE = "give one that it takes with --backend-key"

_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|exceeds? the (available |model's )?context",
    re.IGNORECASE,
)
"""How servers say that prompt and answer do not fit, where no code of the error does."""

_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})


def message_of(error: object) -> str:
    """The words in the `error` of an answer, in whatever form it is."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("error")
    if isinstance(error, list):
        # FastAPI's: each says what is wrong with one field.
        error = "; ".join(str(each.get("msg", "")) for each in error if isinstance(each, dict))
    if not isinstance(error, str):
        return ""
    words = " ".join(
        "".join(c if c.isprintable() else " " for c in portable(error[: 8 * MESSAGE_LENGTH_MAX])).split()
    )
    return words if len(words) <= MESSAGE_LENGTH_MAX else f"{words[:MESSAGE_LENGTH_MAX]} ..."


def error_of(
    status: int, body: bytes, request: InferenceRequest, server: str, load: Load | None = None
) -> FederationError:
    """What `status` and `body` mean to who asked `request`. `server`: what to call it."""
    return _meaning(status, error_in(body), request, server, load)


def error_in_stream(
    error: object, request: InferenceRequest, server: str, load: Load | None = None
) -> FederationError:
    """The same of an `error` that came where the first text was awaited."""
    code = error.get("code") if isinstance(error, dict) else None
    # Without a status that says otherwise it is the server's own failure.
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return _meaning(status, error, request, server, load)


def _meaning(
    status: int, error: object, request: InferenceRequest, server: str, load: Load | None
) -> FederationError:
    words, codes = message_of(error), _codes_of(error)
    said = f"{server}: {words}" if words else f"{server} answered with status {status}"
    is_too_long = bool(codes & _TOO_LONG_CODES) or bool(_TOO_LONG.search(words))
    if status >= 400 and is_too_long:
        return ContextTooLong(said)
    if 300 <= status < 400:
        return Refused("model_failed", f"{server} sends whoever asks to another address; attach that one")
    refusal = _refusal_reason(status, words, codes)
    if refusal == "model_failed":
        return Refused(refusal, f"{server} wants an API key; {KEY_ADVICE}")
    if refusal is not None:
        return Refused(refusal, said, load=load)
    if status in (400, 413, 422):
        return BadRequest(said, param=_param_of(error))
    if status in (404, 405, 501):
        detail = f": {words}" if words else ""
        return BadRequest(f"{server} cannot do {request.kind}{detail}", param="model")
    return Failed(said)


def _refusal_reason(status: int, words: str, codes: set[str]) -> RefusalReason | None:
    """Why the server cannot serve this now, if that is what it says."""
    match status:
        case 401 | 403:
            return "model_failed"
        case 400 | 404 if "model_not_found" in codes:
            return "no_such_model"
        case 404 if "model" in words.lower():
            return "no_such_model"
        case 503 if "loading" in words.lower():
            return "loading"
        case 429 | 503:
            return "busy"
        case _:
            return None


def error_in(body: bytes) -> object:
    """What the body of an error says, in whatever form; None: nothing."""
    try:
        value = parse_json(body)
    except BadAnswer:
        # A page of a proxy, mostly: nothing in it is for our client.
        return None
    if isinstance(value, dict):
        return value.get("error") or value
    return None


def _codes_of(error: object) -> set[str]:
    if not isinstance(error, dict):
        return set()
    return {value for name in ("code", "type") if isinstance(value := error.get(name), str)}


def _param_of(error: object) -> str | None:
    param = error.get("param") if isinstance(error, dict) else None
    return portable(param)[:_PARAM_LENGTH_MAX] if isinstance(param, str) and param else None
