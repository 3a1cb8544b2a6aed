"""Whose fault a backend finds, in the client's own words.

Backends blame fields of an `InferenceRequest`. Some of what clients say has another
name there, or has two names; what they are told must be what they wrote.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from api.answer import OpenAnswer
from federation.backend import Answer
from federation.errors import BadRequest


@asynccontextmanager
async def blaming(open_answer: OpenAnswer, names: Mapping[str, str]) -> AsyncIterator[Answer]:
    """The same answer; what is at fault is called as `names` say, by how the backend's name begins."""
    try:
        async with open_answer() as answer:
            yield answer
    except BadRequest as error:
        param = error.param or ""
        begins = next((name for name in names if param.startswith(name)), None)
        if begins is None:
            raise
        theirs = names[begins] + param.removeprefix(begins)
        message = str(error)
        if message.startswith(param):
            message = theirs + message.removeprefix(param)
        raise type(error)(message, param=theirs) from error
