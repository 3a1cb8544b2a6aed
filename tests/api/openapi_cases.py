"""Requests made from our own OpenAPI, and whether the answers are what it says.

Schemathesis makes requests that follow the document, and near misses that do not. They go to
the app in process, and each answer is held against the document: no 500, only the status codes
and content types it names, bodies of the schemas it gives, and no near miss taken for good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import hypothesis
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.settings import ApiSettings
from tests.api.plausible_backend import PlausibleBackend
from tests.api.stub_manager import StubManager
from tests.asgi import Reply, open_request
from tests.mock_time import run

Operation: TypeAlias = schemathesis.APIOperation[Any, Any, Any, Any]
Case: TypeAlias = schemathesis.Case[Any]

CHECKS: list[schemathesis.CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


_NEEDED = frozenset({"model", "messages", "prompt", "input", "query", "documents", "content", "tokens", "id"})
"""Parameters without which no request is one."""


class Status:
    """A node that is ready, and alone."""

    def swarm(self) -> dict[str, Any]:
        return {"swarm": "home", "self": "12D3KooWMe", "nodes": []}

    def refused_entries(self) -> dict[str, int]:
        return {"stale": 1}

    def peer_counts(self) -> dict[str, dict[str, int]]:
        return {"refusals": {"12D3KooWMe": 1}}

    def engines(self) -> dict[str, Any]:
        return {"budget_bytes": 2**30, "used_bytes": 0, "warning": "", "models": []}

    def explain_route(self, model: str, prompt_tokens: int, max_tokens: int | None) -> dict[str, Any]:
        return {"model": model, "candidates": [], "prompt_tokens": prompt_tokens, "max_tokens": max_tokens}

    async def shut_down(self, model: str) -> bool:
        return model == "tiny"

    def readiness(self) -> str | None:
        return None


def new_app() -> FastAPI:
    """The app over a backend that answers everything."""
    return create_app(PlausibleBackend(), ApiSettings(version="1"), Status(), StubManager())


def operations(app: FastAPI) -> list[Operation]:
    """Every operation that the app's document lists."""
    schema = schemathesis.openapi.from_dict(app.openapi())
    found = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(found) == sum(len(methods) for methods in app.openapi()["paths"].values())
    return found


def check(app: FastAPI, operation: Operation, examples: int, seed: int | None = None) -> Counter[int]:
    """Hold answers to `examples` requests against the document; `seed`: others than always the same.

    Returns how often each status came. Raises the first fault, with the shortest request that shows it.
    """
    statuses: Counter[int] = Counter()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        # Finding and showing is enough: what fails is short already.
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.one_of(*_strategies(operation)))
    def answer_is_as_documented(case: Case) -> None:
        response = _answer(app, case)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    if seed is not None:
        answer_is_as_documented = hypothesis.seed(seed)(answer_is_as_documented)
    answer_is_as_documented()
    return statuses


def _strategies(operation: Operation) -> Iterator[st.SearchStrategy[Case]]:
    good = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    yield good
    if operation.body or operation.path_parameters:
        yield operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    if operation.body:
        yield st.builds(_plainer, good, st.sets(st.integers(0, 40), max_size=3))


def _plainer(case: Case, kept: set[int]) -> Case:
    """`case` with a few of its optional parameters: all at once nearly always contradict each other."""
    if isinstance(case.body, dict):
        optional = sorted(case.body.keys() - _NEEDED)
        wanted = {optional[at] for at in kept if at < len(optional)} | _NEEDED
        case.body = {name: value for name, value in case.body.items() if name in wanted}
        if "messages" in case.body:
            case.body["messages"] = [{"role": "user", "content": "Hi"}]
    return case


def _answer(app: FastAPI, case: Case) -> Response:
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://127.0.0.1:8080")).prepare()
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    headers = {name.lower(): value for name, value in prepared.headers.items()}

    async def main() -> Reply:
        asked = urlsplit(prepared.url or "")
        path = f"{unquote(asked.path)}?{asked.query}" if asked.query else unquote(asked.path)
        async with open_request(app, case.method, path, body=body or None, headers=headers) as exchange:
            return await exchange.reply()

    reply: Reply = run(main)
    return Response(
        status_code=reply.status,
        headers={name: [value] for name, value in reply.headers.items()},
        content=reply.body,
        request=prepared,
        elapsed=0.0,
        verify=False,
    )
