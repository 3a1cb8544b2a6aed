"""What became of one HTTP request, as the log and the metrics are told: once, when it is over.

    request     info     a request for inference, answered or not
    http        debug    any other: health checks and metrics come every few seconds

A line never has what was asked or answered, nor a key: who reads logs need not be who may read chats.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from starlette.types import Scope

from api.metrics import Metrics
from federation.backend import Done, InferenceRequest
from federation.trace import Trace

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestReport:
    """Of one request; whoever answers it fills it in."""

    request_id: str
    http_status: int = 499
    """As nginx says: the client was gone before there was an answer."""
    status: str = "stopped"
    """"ok", "cancelled" by the client, the code of the error, or "stopped": the node was before that."""
    requests: Sequence[InferenceRequest] = ()
    """What it asks of the backend; empty: nothing, or it was refused before that."""
    done: Done | None = None
    """The end of the answer."""
    began_at: float = field(default_factory=trio.current_time)

    def publish(self, scope: Scope, metrics: Metrics) -> None:
        """It is over."""
        path = getattr(scope.get("route"), "path", "other")
        metrics.requests.labels(path, self.http_status).inc()
        if self.requests:
            metrics.ended(self.requests, self.done.usage if self.done is not None else None)
        # Everything that is posted there is inference, also what was refused before anybody looked at it.
        is_inference = scope["method"] == "POST" and scope["path"].startswith("/v1/")
        level, event = (logging.INFO, "request") if is_inference else (logging.DEBUG, "http")
        if logger.isEnabledFor(level):
            logger.log(level, event, extra=self._fields(path))

    def _fields(self, path: str) -> dict[str, Any]:
        now = trio.current_time()
        said: dict[str, Any] = {"request_id": self.request_id, "path": path}
        if self.requests:
            said |= self._fields_of_inference(now)
        return said | {
            "total_s": round(now - self.began_at, 4),
            "status": self.status,
            "http_status": self.http_status,
        }

    def _fields_of_inference(self, now: float) -> dict[str, Any]:
        traces = [request.trace for request in self.requests]
        trace = decisive(traces, now)
        said: dict[str, Any] = {"kind": self.requests[0].kind, "model": self.requests[0].model}
        if trace.peer is not None:
            said["peer"] = trace.peer
        said["attempts"] = sum(each.attempts for each in traces)
        said["resumes"] = sum(each.resumes for each in traces)
        said |= trace.fields(now)
        if self.done is not None:
            usage = self.done.usage
            said["prompt_tokens"] = usage.prompt_tokens
            said["cached_tokens"] = usage.cached_tokens
            said["completion_tokens"] = usage.completion_tokens
        return said


def decisive(traces: Sequence[Trace], now: float) -> Trace:
    """Of several that run side by side, the one that the client waited for: that has a token, if one has, and
    takes longest."""
    return max(traces, key=lambda trace: (trace.has_token, trace.phases(now).total))
