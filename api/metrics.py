"""Counters of one app for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from federation.backend import Usage
from ledger.records import ModelName

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Seconds: from a cached prompt on a GPU to a long one on a laptop, or a model that must load first."""


class Metrics:
    """Labels come from our routes and from models that answered, so clients cannot make new ones."""

    def __init__(self, refused_entries: Callable[[], Mapping[str, int]]) -> None:
        """`refused_entries`: as `NodeStatus` has it; asked at each exposition."""
        self._registry = CollectorRegistry()
        self._registry.register(_RefusedEntries(refused_entries))
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
        self._first_token = Histogram(
            "localai_node_time_to_first_token_seconds",
            "From a streamed request's arrival to its first token, waiting included.",
            ["model"],
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self._registry,
        )

    def first_token(self, model: ModelName, seconds: float) -> None:
        """A streamed answer's first token came."""
        self._first_token.labels(model).observe(seconds)

    def finished(self, model: ModelName, usage: Usage) -> None:
        """An answer came to its end."""
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "cached").inc(usage.cached_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _RefusedEntries(Collector):
    """What the ledger counts itself."""

    def __init__(self, refused_entries: Callable[[], Mapping[str, int]]) -> None:
        self._refused_entries = refused_entries

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "localai_node_ledger_refused_entries",
            "Ledger entries from peers that did not enter, by reason; stale and below_floor are everyday.",
            labels=["reason"],
        )
        for reason, count in sorted(self._refused_entries().items()):
            family.add_metric([reason], count)
        yield family
