"""Answers that come whole."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from federation.backend import Chunk
from node.attached.errors import BadAnswer
from node.attached.lookup_answer import read_lookup, read_scores, read_vectors
from node.attached.request_body import Question
from tests.node.attached.requests import asking

QUESTION = Question("/v1/embeddings", {}, first_input=32, inputs=2)


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def test_vectors_are_put_in_the_order_of_the_inputs() -> None:
    data = [
        {"object": "embedding", "index": 1, "embedding": [1, 2.5]},
        {"object": "embedding", "index": 0, "embedding": base64.b64encode(floats(3, 4)).decode()},
    ]
    chunks, tokens = read_vectors(body({"data": data, "usage": {"prompt_tokens": 7}}), QUESTION)
    assert chunks == [
        Chunk(32, (), "", vector=floats(3, 4)),
        Chunk(33, (), "", vector=floats(1, 2.5)),
    ]
    assert tokens == 7


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}],
        [{"embedding": []}, {"embedding": [1]}],
        [{"embedding": [None]}, {"embedding": [1]}],
        [{"embedding": [1e60]}, {"embedding": [1]}],
        [{"embedding": "no base64"}, {"embedding": [1]}],
        [{"embedding": "AAA="}, {"embedding": [1]}],
        [1, 2],
    ],
)
def test_what_are_no_vectors_is_a_bad_answer(data: list[Any]) -> None:
    with pytest.raises(BadAnswer):
        read_vectors(body({"data": data}), QUESTION)


def test_scores_are_vectors_of_one_number() -> None:
    results = [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": -3}]
    chunks, tokens = read_scores(body({"results": results, "usage": {"total_tokens": 9}}), QUESTION)
    assert [chunk.vector for chunk in chunks] == [floats(-3), floats(0.5)]
    assert tokens == 9
    with pytest.raises(BadAnswer):
        read_scores(body({"results": results[:1]}), QUESTION)


def test_token_ids_and_their_text() -> None:
    text, ids = asking("tokenize", prompt="hi"), asking("detokenize", prompt=(1,))
    assert read_lookup(body({"tokens": [1, 2], "count": 2}), text) == Chunk(0, (1, 2), "")
    assert read_lookup(body({"content": "hi"}), ids) == Chunk(0, (), "hi")
    assert read_lookup(body({"prompt": "hi"}), ids) == Chunk(0, (), "hi")
    for wrong in ({}, {"tokens": [-1]}, {"tokens": [2**31]}, {"tokens": [True]}, {"tokens": "x"}):
        with pytest.raises(BadAnswer):
            read_lookup(body(wrong), text)
    with pytest.raises(BadAnswer):
        read_lookup(body({}), ids)
