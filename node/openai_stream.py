"""A streamed chat completion, as a client reads it: lines of server-sent events."""

from __future__ import annotations

import json
from typing import Any

from node.errors import NodeError


def text_of_event(line: str) -> str:
    """The text in one line of a stream of server-sent chat completion chunks.

    Raises:
      NodeError: the line is an error event.
    """
    data = line.removeprefix("data: ")
    if data in (line, "[DONE]"):
        return ""
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise NodeError(f"the answer broke off: {event['error']['message']}")
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
