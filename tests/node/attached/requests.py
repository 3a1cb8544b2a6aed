"""Requests that tests ask attached servers."""

from __future__ import annotations

from typing import Any

from federation.backend import InferenceRequest, RequestId, RequestKind
from ledger.records import ModelName

MESSAGES = ({"role": "user", "content": "hello"},)


def asking(kind: RequestKind = "chat", **fields: Any) -> InferenceRequest:
    """A request of `kind` with something in it."""
    if kind == "chat":
        fields = {"messages": MESSAGES, **fields}
    elif kind == "completion":
        fields = {"prompt": "once", **fields}
    return InferenceRequest(kind, RequestId("r1"), ModelName("tiny"), **fields)
