"""Documents in the order in which they answer a query."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from api.openapi import RankedList
from federation.backend import AnswerEvent, Chunk, Done, Timings, Usage
from federation.request_limits import INPUTS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.api.conftest import Bench
    from tests.asgi import Reply

DOCUMENTS = ["about cats", {"text": "about dogs"}, "about cars"]


def scored(*scores: float) -> list[AnswerEvent]:
    chunks = [Chunk(number, (), "", vector=struct.pack("<f", score)) for number, score in enumerate(scores)]
    return [*chunks, Done((), Usage(30, 0), Timings())]


@pytest.fixture
def bench(new_bench: Callable[..., Bench]) -> Bench:
    """A model that likes dogs best."""
    return new_bench(script=scored(-1.5, 0.9, -1.5))


def rerank(bench: Bench, **body: Any) -> Reply:
    said = {"model": "stub", "query": "Which bark?", "documents": DOCUMENTS, **body}
    return bench.call("POST", "/v1/rerank", said)


def test_the_best_comes_first_and_of_equals_the_earlier_one(bench: Bench) -> None:
    body = rerank(bench).json()
    RankedList.model_validate(body, strict=True)
    assert body == {
        "object": "list",
        "model": "stub",
        "results": [
            {"index": 1, "relevance_score": 0.899999976, "document": {"text": "about dogs"}},
            {"index": 0, "relevance_score": -1.5, "document": {"text": "about cats"}},
            {"index": 2, "relevance_score": -1.5, "document": {"text": "about cars"}},
        ],
        "usage": {"prompt_tokens": 30, "total_tokens": 30},
    }
    [request] = bench.backend.requests
    assert (request.kind, request.prompt) == ("rerank", "Which bark?")
    assert request.inputs == ("about cats", "about dogs", "about cars")
    assert not request.is_streamed


def test_only_so_many_are_returned_and_their_texts_if_they_are_wanted(bench: Bench) -> None:
    results = rerank(bench, top_n=1, return_documents=False).json()["results"]
    assert results == [{"index": 1, "relevance_score": 0.899999976}]
    assert len(rerank(bench, top_n=99).json()["results"]) == 3


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": ["a"]}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 3]}, "documents[1]"),
        ({"documents": [{"image": "x"}]}, "documents[0]"),
        ({"documents": ["a"] * (INPUTS_MAX + 1)}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
def test_a_wrong_parameter_is_named(bench: Bench, said: dict[str, Any], param: str) -> None:
    reply = rerank(bench, **said)
    assert reply.status == 400
    assert reply.json()["error"]["param"].startswith(param)
    assert bench.backend.requests == []


@pytest.mark.parametrize("script", [scored(1, 2), scored(1, 2, float("nan"))])
def test_half_an_answer_is_none(new_bench: Callable[..., Bench], script: list[AnswerEvent]) -> None:
    assert rerank(new_bench(script=script)).status == 502


def test_a_vector_is_no_score(new_bench: Callable[..., Bench]) -> None:
    script: list[AnswerEvent] = [Chunk(0, (), "", vector=bytes(8)), *scored(1, 2, 3)]
    assert rerank(new_bench(script=script)).status == 502
