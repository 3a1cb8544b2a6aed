"""Counters and histograms of one app for Prometheus, in a registry of its own.

`docs/metrics.md` lists them all. Labels come from our routes and from what the swarm has: what has left it,
or was never there, has no series, so neither clients nor peers can make new ones without end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from api.node_status import NodeStatus
from federation.backend import SLOTLESS_KINDS, InferenceRequest, Usage

_WAIT_BUCKETS = (0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Seconds: from a free slot and a cached prompt on a GPU to a long one on a laptop, or a cold model."""

_PER_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
"""Seconds: from a small model on a GPU to a large one on a busy laptop; people read a token in 0.2."""

_TOKEN_KINDS = ("prompt", "cached", "completion")

_COUNTS = {
    "refusals": "Requests that a peer did not accept, so that another one was asked.",
    "failures": "Requests that a peer accepted and could not finish, or that could not reach it.",
    "stalls": "Failures in which a peer had fallen silent.",
    "hedges": "Requests to a peer whose first content was late, so that one more was asked.",
    "retries": "Requests a peer accepted after others were asked in vain, before anything was delivered.",
    "resumes": "Answers of another peer that a peer went on with.",
    "fetched_bytes": "Bytes of models that came from a peer.",
    "uploaded_bytes": "Bytes of models that a peer was sent.",
}
"""What a node counts of each peer, as `NodeStatus.peer_counts` calls it."""


class Metrics:
    """What one app counts."""

    def __init__(self, status: NodeStatus) -> None:
        """`status` is asked at each exposition."""
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCounts(status))
        self.requests = Counter(
            "localai_node_http_requests",
            "HTTP requests by route and status; 499: the client hung up first.",
            ["path", "status"],
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "localai_node_http_requests_in_flight",
            "HTTP requests being answered now.",
            registry=self._registry,
        )
        self._tokens = Counter(
            "localai_node_tokens",
            "Tokens of finished answers; cached ones are part of the prompt's.",
            ["model", "kind"],
            registry=self._registry,
        )
        self._queue = self._histogram(
            "localai_node_queue_seconds", "How long requests waited at this front for a slot.", _WAIT_BUCKETS
        )
        self._first_token = self._histogram(
            "localai_node_time_to_first_token_seconds",
            "From a request's arrival at this front to its first token, waiting included.",
            _WAIT_BUCKETS,
        )
        self._per_token = self._histogram(
            "localai_node_time_per_output_token_seconds",
            "Mean time from one token of an answer to the next, where one peer gave all of it.",
            _PER_TOKEN_BUCKETS,
        )
        self._series: set[tuple[str, str]] = set()
        """Model and peer."""

    def ended(self, requests: Sequence[InferenceRequest], usage: Usage | None) -> None:
        """`requests`, which one client sent as one, are over. `usage` of them all; None: they have no end."""
        for request in requests:
            self._note_times(request)
        model = _model_of(requests[0])
        if usage is not None and any(model == each for each, _ in self._series):
            counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            for kind, count in zip(_TOKEN_KINDS, counts, strict=True):
                self._tokens.labels(model, kind).inc(count)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        self._forget(self._pairs())
        return generate_latest(self._registry)

    def _note_times(self, request: InferenceRequest) -> None:
        trace = request.trace
        if trace.peer is None:
            return
        pair = (_model_of(request), trace.peer)
        if pair not in self._series:
            known = self._pairs()
            self._forget(known)
            if pair not in known:
                return
            self._series.add(pair)
        if request.kind not in SLOTLESS_KINDS:
            self._queue.labels(*pair).observe(trace.queue)
        if request.kind not in ("chat", "completion"):
            return
        if (waited := trace.time_to_first_token()) is not None:
            self._first_token.labels(*pair).observe(waited)
        if (gap := trace.time_per_token(request.choices)) is not None:
            self._per_token.labels(*pair).observe(gap)

    def _pairs(self) -> set[tuple[str, str]]:
        """Each model with each node that has it."""
        nodes = self._status.swarm()["nodes"]
        return {(model["name"], node["id"]) for node in nodes for model in node["models"]}

    def _forget(self, known: set[tuple[str, str]]) -> None:
        for pair in self._series - known:
            for histogram in (self._queue, self._first_token, self._per_token):
                histogram.remove(*pair)
        for model in {model for model, _ in self._series} - {model for model, _ in known}:
            for kind in _TOKEN_KINDS:
                self._tokens.remove(model, kind)
        self._series &= known

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, ["model", "peer"], buckets=buckets, registry=self._registry)


def _model_of(request: InferenceRequest) -> str:
    return request.trace.model or request.model


class _NodeCounts(Collector):
    """What the parts of a node count themselves."""

    def __init__(self, status: NodeStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[CounterMetricFamily]:
        entries = CounterMetricFamily(
            "localai_node_ledger_refused_entries",
            "Ledger entries from peers that did not enter, by reason; stale and below_floor are everyday.",
            labels=["reason"],
        )
        for reason, count in sorted(self._status.refused_entries().items()):
            entries.add_metric([reason], count)
        yield entries
        members = {node["id"] for node in self._status.swarm()["nodes"]}
        for name, counts in self._status.peer_counts().items():
            family = CounterMetricFamily(f"localai_node_peer_{name}", _COUNTS[name], labels=["peer"])
            for peer, count in sorted(counts.items()):
                if peer in members:
                    family.add_metric([peer], count)
            yield family
