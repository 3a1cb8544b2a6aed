"""Ids of tool calls: the same wherever the answer is made.

An answer that moves to another machine is made again there up to where it was, and
what was said of it must stay true. So an id follows from the request and the call's
place in it, and two requests never share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from federation.backend import RequestId

_LENGTH = 24
"""Hexadecimal digits; OpenAI's have 24 letters. Of 2^96 no two requests of a household meet."""


def call_id(request_id: RequestId, choice: int, index: int) -> str:
    """The id of call `index` of answer `choice`."""
    digest = hashlib.sha256(f"{choice}/{index}/{request_id}".encode()).hexdigest()
    return f"call_{digest[:_LENGTH]}"


def call_ids_of(request_id: RequestId, choice: int) -> Callable[[int], str]:
    """The ids of one answer, by a call's index."""
    return partial(call_id, request_id, choice)


def short_call_id(id_: str, length: int) -> str:
    """An id for a template that takes only so many letters and digits; equal ids stay equal."""
    return hashlib.sha256(id_.encode()).hexdigest()[:length]
