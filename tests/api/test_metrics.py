"""What is counted: by models that answered and members of the swarm, and as the documentation says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from federation.counts import Counts
from tests.api.stub_backend import SERVED_BY, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(\w+)` \| (\w+) \|([^|]*)\| (.+) \|")


def exposed(bench: Bench) -> dict[str, Any]:
    """Each family by name, without those that say when another one began."""
    text = bench.call("GET", "/metrics").body.decode()
    families = text_string_to_metric_families(text)
    return {family.name: family for family in families if not family.name.endswith("_created")}


def value(bench: Bench, sample: str, **labels: str) -> float | None:
    """Of one series; None: there is none."""
    found = [
        each.value
        for family in exposed(bench).values()
        for each in family.samples
        if each.name == sample and each.labels == labels
    ]
    return found[0] if found else None


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_timed_by_model_and_peer(new_bench: Callable[..., Bench], stream: bool) -> None:
    first, *rest = words("a", "b", "c")
    bench = new_bench(accept_after=0.5, script=[1.5, first, 0.5, *rest])
    bench.chat(stream=stream)
    of = {"model": "stub", "peer": SERVED_BY}
    assert value(bench, "localai_node_time_to_first_token_seconds_sum", **of) == pytest.approx(2.0)
    assert value(bench, "localai_node_time_per_output_token_seconds_sum", **of) == pytest.approx(0.25)
    assert value(bench, "localai_node_queue_seconds_count", **of) == 1


def test_only_generated_tokens_are_timed(bench: Bench) -> None:
    bench.call("POST", "/v1/tokenize", {"model": "stub", "content": "Hi"})
    bench.call("POST", "/v1/embeddings", {"model": "stub", "input": "Hi"})
    of = {"model": "stub", "peer": SERVED_BY}
    assert value(bench, "localai_node_queue_seconds_count", **of) == 1
    assert value(bench, "localai_node_time_to_first_token_seconds_count", **of) is None


def test_an_answer_that_broke_off_has_a_first_token_and_no_pace(new_bench: Callable[..., Bench]) -> None:
    bench = new_bench(script=[words("a")[0], RuntimeError("odd")])
    bench.chat(stream=True)
    of = {"model": "stub", "peer": SERVED_BY}
    assert value(bench, "localai_node_time_to_first_token_seconds_count", **of) == 1
    assert value(bench, "localai_node_time_per_output_token_seconds_count", **of) is None
    assert value(bench, "localai_node_tokens_total", model="stub", kind="completion") is None


def test_what_has_left_the_swarm_has_no_series(bench: Bench) -> None:
    bench.chat()
    of = {"model": "stub", "peer": SERVED_BY}
    assert value(bench, "localai_node_queue_seconds_count", **of) == 1
    assert value(bench, "localai_node_tokens_total", model="stub", kind="completion") == 2
    assert value(bench, "localai_node_peer_refusals_total", peer=SERVED_BY) == 3
    bench.status.view = {"swarm": "home", "self": "me", "nodes": []}
    bench.chat()
    text = bench.call("GET", "/metrics").body.decode()
    assert "stub" not in text.lower()


def test_whoever_is_not_of_the_swarm_is_not_named(bench: Bench) -> None:
    assert "who-left" in bench.status.counted["refusals"]
    assert value(bench, "localai_node_peer_refusals_total", peer="who-left") is None


def test_a_model_that_nobody_has_makes_no_series(bench: Bench) -> None:
    bench.chat(model="made-up")
    assert "made-up" not in bench.call("GET", "/metrics").body.decode()


def test_all_that_a_node_counts_of_peers_is_exposed(bench: Bench) -> None:
    counted = {each.name for each in fields(Counts)} | {"fetched_bytes", "uploaded_bytes"}
    assert set(bench.status.counted) == counted
    assert {f"localai_node_peer_{name}" for name in counted} <= set(exposed(bench))


def test_bytes_of_models_are_counted_both_ways(bench: Bench) -> None:
    assert value(bench, "localai_node_peer_fetched_bytes_total", peer=SERVED_BY) == 4_000_000
    assert value(bench, "localai_node_peer_uploaded_bytes_total", peer=SERVED_BY) == 50_300_000


def test_the_documentation_lists_what_there_is(bench: Bench) -> None:
    """Each with its type, its labels and its text, in no more and no less rows."""
    bench.chat()
    documented = {
        name: (kind, {label.strip("` ") for label in labels.split(",")} - {""}, text)
        for name, kind, labels, text in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    }
    there = {
        name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
            family.documentation,
        )
        for name, family in exposed(bench).items()
    }
    # What was never counted has no series, so no labels to compare.
    unlabelled = {name for name, (_, labels, _) in there.items() if not labels}
    for name in unlabelled & set(documented):
        kind, _, text = documented[name]
        documented[name] = (kind, set(), text)
    assert there == documented
    assert unlabelled <= {
        "localai_node_http_requests_in_flight",
        "localai_node_peer_stalls",
        "localai_node_peer_hedges",
        "localai_node_peer_retries",
    }
