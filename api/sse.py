"""Server-sent events as OpenAI uses them: one `data:` line each, `[DONE]` at the end."""

from __future__ import annotations

import json
from typing import Any

CONTENT_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

HEADERS = (
    CONTENT_TYPE,
    (b"cache-control", b"no-store"),
    # nginx would hold the tokens back until its buffer is full.
    (b"x-accel-buffering", b"no"),
)

# Legal inside JSON, but clients that cut lines as Unicode does (Python's `splitlines`) would cut there.
_LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}

# Made once: `json.dumps` would make one for every token.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:  # noqa: ANN401 (any JSON)
    """One event that carries `value`."""
    return f"data: {dumps(value)}\n\n".encode()


def comment(text: str) -> bytes:
    """A line that clients skip: it only shows that somebody is there."""
    return f": {text}\n\n".encode()


def dumps(value: Any) -> str:  # noqa: ANN401 (any JSON)
    """`value` as JSON on one line, readable in a terminal in any language."""
    text = _encode(value)
    return text if text.isascii() else text.translate(_LINE_BREAKS)
