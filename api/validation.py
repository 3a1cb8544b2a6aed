"""What is wrong with a body or a query, in one sentence that names the parameter.

pydantic reports where an error is in terms of its own types (`content`, `str`);
here only the part that exists in the client's JSON is kept (`messages[0].content`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError


def describe_validation(error: RequestValidationError) -> tuple[str | None, str]:
    """The parameter to blame, if it is one, and what is wrong with it."""
    # Of the alternatives of a union, the one that got furthest is the one that was meant.
    worst = max(error.errors(), key=lambda each: len(each["loc"]))
    if worst["type"] == "json_invalid":
        return None, f"the body is not JSON: {worst['ctx']['error']} at character {worst['loc'][1]}"
    where, *location = worst["loc"]
    if where == "query":
        param: str | None = str(location[0])
    else:
        param = _path_in(error.body, location, is_missing=worst["type"] == "missing")
    if param is None and isinstance(error.body, dict):
        return None, "the body has a name that is not text"
    if param is None:
        return None, "the body must be a JSON object"
    # What pydantic writes in front of our own words.
    return param, f"`{param}`: {worst['msg'].removeprefix('Value error, ')}"


def describe_unreadable(cause: Exception) -> str:
    """Why a body could not be read at all: what FastAPI says of it is that there was an error."""
    match cause:
        case RecursionError():
            return "the body is nested too deep"
        case UnicodeDecodeError():
            return f"the body is not UTF-8: {cause.reason} at byte {cause.start}"
        case ValueError():
            return "the body has a number of more digits than any number needs"
    return "the body could not be read"


def _path_in(body: Any, location: Sequence[str | int], *, is_missing: bool) -> str | None:  # noqa: ANN401 (any JSON)
    """`location` as a path in `body`, without the steps that name types; None if nothing is left."""
    path = ""
    for depth, step in enumerate(location, start=1):
        if isinstance(body, dict) and (step in body or (is_missing and depth == len(location))):
            path = f"{path}.{step}" if path else f"{step}"
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and step < len(body):
            path = f"{path}[{step}]"
            body = body[step]
    return path or None
