"""Health, models, counters, the swarm, and the pages that describe it all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from federation.backend import ModelInfo
from ledger.records import ModelName

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench


def test_health_and_version_are_told(bench: Bench) -> None:
    assert bench.call("GET", "/healthz").json() == {"status": "ok"}
    assert bench.call("GET", "/version").json() == {"name": "localai-node", "version": "1.2.3"}


def test_a_node_that_is_not_ready_says_why_and_when_to_ask_again(bench: Bench) -> None:
    assert bench.call("GET", "/readyz").status == 200
    bench.status.reason = "no model yet; add one with `localai-node models add FILE`"
    reply = bench.call("GET", "/readyz")
    assert reply.status == 503
    assert reply.json()["error"]["message"] == bench.status.reason
    assert int(reply.headers["retry-after"]) > 0
    assert bench.call("GET", "/healthz").status == 200


def test_the_swarm_is_told_as_the_node_sees_it(bench: Bench) -> None:
    assert bench.call("GET", "/api/swarm").json() == bench.status.view


def test_the_engines_of_a_node_are_told_together_and_one_by_one(bench: Bench) -> None:
    rows = [{"model": "org/tiny", "state": "loaded"}, {"model": "b", "state": "cold"}]
    bench.status.monitored = {"budget_bytes": 9, "used_bytes": 4, "warning": "", "models": rows}
    assert bench.call("GET", "/backend/monitor").json() == bench.status.monitored
    assert bench.call("GET", "/backend/monitor?model=org/tiny").json() == rows[0]
    missing = bench.call("GET", "/backend/monitor?model=nope")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_a_shutdown_says_what_happened(bench: Bench) -> None:
    bench.status.loaded = {"tiny": True}
    for was_loaded, message in ((True, "model stopped"), (False, "the model was not loaded")):
        reply = bench.call("POST", "/backend/shutdown", {"model": "tiny"})
        assert reply.json() == {"model": "tiny", "was_loaded": was_loaded, "message": message}
    missing = bench.call("POST", "/backend/shutdown", {"model": "nope"})
    assert (missing.status, missing.json()["error"]["param"]) == (404, "model")
    assert bench.call("POST", "/backend/shutdown", {}).json()["error"]["param"] == "model"


def test_models_are_listed_without_those_that_failed(new_bench: Callable[..., Bench]) -> None:
    listed = [
        ModelInfo(ModelName("a/b"), "loaded", ("chat",), 4096),
        ModelInfo(ModelName("broken"), "failed", (), 0, "not a GGUF file"),
        ModelInfo(ModelName("cold"), "cold", ("chat",), 0),
    ]
    bench = new_bench(listed=listed)
    body = bench.call("GET", "/v1/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["a/b", "cold"]
    assert body["data"][0]["object"] == "model"
    assert bench.call("GET", "/v1/models/a/b").json()["id"] == "a/b"
    assert bench.call("GET", "/v1/models/broken").json()["reason"] == "not a GGUF file"
    missing = bench.call("GET", "/v1/models/nope")
    assert missing.status == 404
    assert missing.json()["error"]["code"] == "model_not_found"


def test_counters_name_routes_and_never_what_clients_make_up(bench: Bench) -> None:
    bench.chat()
    bench.chat(stream=True)
    bench.chat(model=None)
    bench.call("GET", "/made/up")
    bench.call("GET", "/v1/models/made-up")
    text = bench.call("GET", "/metrics").body.decode()
    assert 'localai_node_http_requests_total{path="/v1/chat/completions",status="200"} 2.0' in text
    assert 'localai_node_http_requests_total{path="/v1/chat/completions",status="400"} 1.0' in text
    assert 'localai_node_http_requests_total{path="other",status="404"} 1.0' in text
    assert 'localai_node_tokens_total{kind="completion",model="stub"} 4.0' in text
    assert 'localai_node_ledger_refused_entries_total{reason="bad_signature"} 2.0' in text
    assert "localai_node_http_requests_in_flight 1.0" in text  # This very request.
    assert "made" not in text


def test_two_apps_share_no_counters(new_bench: Callable[..., Bench]) -> None:
    one, other = new_bench(), new_bench()
    one.chat()
    assert "/v1/chat/completions" not in other.call("GET", "/metrics").body.decode()


def test_openapi_names_every_endpoint_and_the_docs_page_shows_them(bench: Bench) -> None:
    paths = bench.call("GET", "/openapi.json").json()["paths"]
    assert {
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/tokenize",
        "/v1/detokenize",
        "/healthz",
        "/readyz",
        "/version",
    } <= set(paths)
    assert {"/metrics", "/api/swarm", "/backend/monitor", "/backend/shutdown"} <= set(paths)
    assert all(
        "422" not in operation["responses"] for methods in paths.values() for operation in methods.values()
    )
    page = bench.call("GET", "/docs").body.decode()
    assert all(path in page for path in paths)


def test_openapi_knows_every_parameter_by_the_name_it_is_sent_by(bench: Bench) -> None:
    schemas = bench.call("GET", "/openapi.json").json()["components"]["schemas"]
    both = {
        "temperature",
        "logit_bias",
        "n",
        "best_of",
        "response_format",
        "grammar",
        "json_schema",
        "logprobs",
    }
    assert both | {"messages", "tools", "tool_choice", "functions", "top_logprobs"} <= set(
        schemas["ChatBody"]["properties"]
    )
    assert both | {"prompt", "echo", "suffix"} <= set(schemas["CompletionBody"]["properties"])
    assert "schema" in schemas["JsonSchemaFormat"]["properties"]
    assert schemas["EmbeddingsBody"]["required"] == ["model", "input"]
    assert {"EmbeddingList", "RankedList", "TokenList", "TokenText"} <= set(schemas)


def test_openapi_and_the_docs_page_name_what_a_request_may_say_in_headers(bench: Bench) -> None:
    paths = bench.call("GET", "/openapi.json").json()["paths"]
    of = {
        path: {each["name"] for each in operation["post"].get("parameters", ())}
        for path, operation in paths.items()
        if path.startswith("/v1/") and "post" in operation
    }
    assert len(of) == 6
    for names in of.values():
        assert {"x-localai-only", "x-localai-policy", "x-localai-timeout"} <= names
    assert bench.call("GET", "/docs").body.decode().count("<code>x-localai-resume</code>") == len(of)


def test_the_docs_page_needs_no_internet(bench: Bench) -> None:
    page = bench.call("GET", "/docs").body.decode()
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    assert "<script" not in page


def test_where_a_request_would_go_is_explained(bench: Bench) -> None:
    bench.status.loaded["tiny"] = True
    answer = bench.call("GET", "/api/route/explain?model=tiny&prompt_tokens=7&max_tokens=9")
    assert answer.json() == {"model": "tiny", "prompt_tokens": 7, "max_tokens": 9}
    assert bench.call("GET", "/api/route/explain?model=tiny").json()["max_tokens"] is None
    assert bench.call("GET", "/api/route/explain?model=nobody").status == 404
    for query, wrong in (("", "model"), ("?model=tiny&prompt_tokens=-1", "prompt_tokens")):
        refused = bench.call("GET", f"/api/route/explain{query}")
        assert (refused.status, refused.json()["error"]["param"]) == (400, wrong)
        assert refused.json()["error"]["message"].startswith(f"`{wrong}`: ")
